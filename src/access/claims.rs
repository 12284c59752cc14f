//! What is in a token.

use serde::{Deserialize, Serialize};

use super::permission::Permission;
use crate::ids::{AvatarId, is_name};

/// The claims that this server reads. Others, as issuers add them (`iat`, `jti`), are passed over, but not one that would
/// allow less and that this server does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The tenant: who may neither name nor hear another's sessions; 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub sub: String,
    /// What its holder may do.
    pub may: Vec<Permission>,
    /// The only session that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The only avatar that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<AvatarId>,
    /// When it ends, in whole seconds of Unix.
    pub exp: u64,
    /// When it begins to hold, in whole seconds of Unix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Whom it is for, where the server's settings name somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<serde_json::Value>,
    /// Limits, which this server would have to hold its holder to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<serde_json::Value>,
}

impl Claims {
    /// Whether names are as they must be; if not, which is not.
    pub(super) fn check(&self) -> Result<(), String> {
        let wanted = "is not 1 to 64 of A-Z, a-z, 0-9, '_' and '-'";
        if !is_name(&self.sub) {
            return Err(format!("sub, the tenant, {wanted}"));
        }
        if self.session.as_deref().is_some_and(|session| !is_name(session)) {
            return Err(format!("session {wanted}"));
        }
        if self.limits.is_some() {
            return Err("limits: this server holds nobody to any".to_owned());
        }
        Ok(())
    }
}
