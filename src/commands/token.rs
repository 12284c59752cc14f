//! `mouthpiece token`: signs a token and prints it.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{BadInput, print};
use crate::access::{Claims, sign};
use crate::cli::Token;
use crate::config::signing;

pub(super) fn run(arguments: Token) -> anyhow::Result<ExitCode> {
    let Token { may, tenant, session, avatar, duration, secret_file, config } = arguments;
    let (secret, audience) = signing(config.as_deref(), secret_file)?;
    let seconds = u64::try_from(duration.as_secs()).ok().filter(|seconds| *seconds > 0);
    let seconds = seconds.ok_or_else(|| BadInput("--for: the token would have ended already: say 1h".to_owned()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = Claims {
        sub: tenant,
        may,
        session,
        avatar,
        exp: now.saturating_add(seconds),
        nbf: None,
        aud: audience.map(Into::into),
        limits: None,
    };
    let token = sign(&secret, &claims).map_err(|error| BadInput(error.to_string()))?;
    print(&format!("{token}\n"));
    Ok(ExitCode::SUCCESS)
}
