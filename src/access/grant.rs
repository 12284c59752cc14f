//! What somebody may do, to which sessions, until when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep_until};

use super::TokenFault;
use super::claims::Claims;
use super::permission::{Permission, Permissions};
use crate::ids::AvatarId;

/// The tenant of whoever runs the server: its sessions have the names that the settings call them by.
pub const OWN_TENANT: &str = "main";

/// A token that lasts longer is looked at again after that.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// What somebody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    tenant: String,
    may: Permissions,
    session: Option<String>,
    avatar: Option<AvatarId>,
    ends: Option<Instant>,
}

impl Grant {
    /// Everything, where nobody needs a token.
    pub fn everything() -> Self {
        Self::own(Permission::ALL)
    }

    /// This much, for the server's own sessions and without an end.
    pub fn own(may: impl IntoIterator<Item = Permission>) -> Self {
        Self { tenant: OWN_TENANT.to_owned(), may: may.into_iter().collect(), session: None, avatar: None, ends: None }
    }

    /// As claims say whose signature and times are right.
    pub(super) fn of(claims: Claims) -> Result<Self, TokenFault> {
        claims.check().map_err(TokenFault::Claims)?;
        let Claims { sub, may, session, avatar, exp, .. } = claims;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Clocks that differ do not make it hold for longer.
        let left = Duration::from_secs(exp).checked_sub(now).filter(|left| !left.is_zero()).ok_or(TokenFault::Ended)?;
        let may = may.into_iter().collect();
        Ok(Self { tenant: sub, may, session, avatar, ends: Some(Instant::now() + left.min(LONGEST)) })
    }

    /// Whether this is allowed.
    pub fn may(&self, permission: Permission) -> bool {
        self.may.has(permission)
    }

    /// Whether at least one of these is.
    pub fn may_any(&self, permissions: &[Permission]) -> bool {
        permissions.iter().any(|permission| self.may(*permission))
    }

    /// Whose sessions these are.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The only session that it is for, by the tenant's own name.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// The only avatar that it is for.
    pub fn avatar(&self) -> Option<&AvatarId> {
        self.avatar.as_ref()
    }

    /// What the server calls the session that the tenant calls `name`. No two tenants have one in common, since no name and no
    /// tenant has a dot.
    pub fn inner_name(&self, name: &str) -> String {
        if self.tenant == OWN_TENANT { name.to_owned() } else { format!("{}.{name}", self.tenant) }
    }

    /// Waits for its end, for ever where it has none.
    pub async fn ended(&self) {
        match self.ends {
            Some(ends) => sleep_until(ends).await,
            None => std::future::pending().await,
        }
    }
}
