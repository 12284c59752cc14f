//! Who may do what: signed tokens (JWT, RFC 7519), what they allow, and the keys that they are signed with.
//!
//! In here: reading a token and making one. `claims` is what is in it, `grant` what its holder may do, `permission` the words
//! for that, `key_set` public keys that somebody else publishes. Not in here: where a token comes from and which request
//! needs what (`signalling::guard`), which settings there are (`config`).
//! Runs on: whichever task asks; [`Access::keep_keys`] is one task of the server.

mod claims;
mod grant;
mod key_set;
mod permission;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};

use crate::endpoint::Key;
pub use claims::Claims;
pub use grant::{Grant, OWN_TENANT};
use key_set::KeySet;
pub use key_set::{KeySetError, KeySource};
pub use permission::{Permission, Permissions, UnknownPermission};

/// Of the secret, in bytes: as many as the hash of HS256 has (RFC 7518, 3.2).
pub const LEAST_SECRET_BYTES: usize = 32;
/// Longest token that is read; those with every claim have some 400.
const TOKEN_BYTES: usize = 4096;
/// How far the clock of whoever signs may be ahead of ours.
const CLOCKS_DIFFER_S: u64 = 10;

/// What tokens are checked with; at least one of the first two is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Of tokens signed with HS256; of [`LEAST_SECRET_BYTES`] at least.
    pub secret: Option<Key>,
    /// Of tokens signed with EdDSA (Ed25519).
    pub keys: Option<KeySource>,
    /// Whom tokens have to be for, by their claim `aud`; without one they must be for nobody in particular.
    pub audience: Option<String>,
}

/// Why a token lets nobody in. Told to whoever brought it, so it says nothing of the keys.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// There is none.
    #[error("this server lets nobody in without a token: send one as Authorization: Bearer TOKEN")]
    Missing,
    /// It is not even read.
    #[error("the token has more than {TOKEN_BYTES} bytes")]
    TooLong,
    /// It is no token that this server could check.
    #[error("the token is not a JWT that is signed with HS256 or EdDSA")]
    Malformed,
    /// Another key has signed it, or somebody has changed it.
    #[error("the token is not signed with a key of this server's")]
    Signature,
    /// Its time is over.
    #[error("the token has ended: ask for another one")]
    Ended,
    /// Its time has not begun.
    #[error("the token does not hold yet")]
    NotYet,
    /// It is for another service.
    #[error("the token is for another audience (aud)")]
    Audience,
    /// A claim is missing or not as it must be.
    #[error("the token's claims cannot be used: {0}")]
    Claims(String),
}

/// Why no token is made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A claim is not as it must be.
    #[error("{0}")]
    Claims(String),
    /// It could not be written.
    #[error("the token cannot be signed: {0}")]
    Unsigned(#[source] jsonwebtoken::errors::Error),
}

/// Reads tokens.
pub struct Access {
    secret: Option<DecodingKey>,
    keys: Option<KeySet>,
    audience: Option<String>,
}

impl Access {
    /// Reads the keys. A file that cannot be used is an error; an address that does not answer is asked again, and until it
    /// does nobody gets in by its keys.
    pub async fn open(settings: Settings) -> Result<Self, KeySetError> {
        let Settings { secret, keys, audience } = settings;
        let keys = match keys {
            Some(source) => Some(KeySet::open(source).await?),
            None => None,
        };
        Ok(Self { secret: secret.map(|secret| DecodingKey::from_secret(secret.as_bytes())), keys, audience })
    }

    /// Reads published keys again when they change, for ever.
    pub async fn keep_keys(&self) {
        match &self.keys {
            Some(keys) => keys.keep().await,
            None => std::future::pending().await,
        }
    }

    /// What the holder of a token may do from now on.
    pub fn check(&self, token: &str) -> Result<Grant, TokenFault> {
        if token.len() > TOKEN_BYTES {
            return Err(TokenFault::TooLong);
        }
        let header = decode_header(token).map_err(|_| TokenFault::Malformed)?;
        if has_critical_extensions(token) {
            return Err(TokenFault::Malformed);
        }
        // The algorithm is the token's word, so each has keys of its own: a public key is nobody's secret.
        let keys = match (header.alg, &self.secret, &self.keys) {
            (Algorithm::HS256, Some(secret), _) => vec![secret.clone()],
            (Algorithm::EdDSA, _, Some(keys)) => keys.named(header.kid.as_deref()),
            (Algorithm::HS256 | Algorithm::EdDSA, ..) => return Err(TokenFault::Signature),
            _ => return Err(TokenFault::Malformed),
        };
        let validation = self.validation(header.alg);
        let mut fault = TokenFault::Signature;
        for key in keys {
            match decode::<Claims>(token, &key, &validation) {
                Ok(token) => return Grant::of(token.claims),
                Err(error) => fault = fault_of(&error),
            }
            if fault != TokenFault::Signature {
                break;
            }
        }
        Err(fault)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = CLOCKS_DIFFER_S;
        validation.validate_nbf = true;
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            validation.set_required_spec_claims(&["exp", "sub", "aud"]);
        } else {
            validation.set_required_spec_claims(&["exp", "sub"]);
        }
        validation
    }
}

/// A token that says that it must not be used by whom its extensions are unknown to (RFC 7515, 4.1.11); we know none.
fn has_critical_extensions(token: &str) -> bool {
    let header = token.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
    let header: Option<serde_json::Value> = header.and_then(|header| serde_json::from_slice(&header).ok());
    header.is_none_or(|header| header.get("crit").is_some())
}

fn fault_of(error: &jsonwebtoken::errors::Error) -> TokenFault {
    match error.kind() {
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenFault::Signature,
        ErrorKind::ExpiredSignature => TokenFault::Ended,
        ErrorKind::ImmatureSignature => TokenFault::NotYet,
        ErrorKind::InvalidAudience => TokenFault::Audience,
        ErrorKind::MissingRequiredClaim(claim) => {
            TokenFault::Claims(format!("{claim} is missing, or not of the kind that it must be"))
        }
        ErrorKind::Json(error) => TokenFault::Claims(error.to_string().chars().take(200).collect()),
        _ => TokenFault::Malformed,
    }
}

/// A token with these claims, signed with HS256.
pub fn sign(secret: &Key, claims: &Claims) -> Result<String, SignError> {
    claims.check().map_err(SignError::Claims)?;
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(Algorithm::HS256), claims, &key).map_err(SignError::Unsigned)
}

#[cfg(test)]
mod tests;
