//! Descriptions of pipelines as the API tells of them: what it asks of whoever uses them.
//!
//! In here: the trait between the API and the server. Not in here: HTTP (`api`), what a change leads to (`media::live`).

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::media::PipelineFile;

/// How the API tells of descriptions, and has changed ones come into use.
#[derive(Clone)]
pub struct PipelineApi {
    /// Who does.
    pub editor: Arc<dyn PipelineEditor>,
    /// Whether whoever may use the API may ask for either.
    pub allowed: bool,
}

/// Uses descriptions that may change. Implemented by the server, faked in tests. Nothing of it names a path.
pub trait PipelineEditor: Send + Sync {
    /// Whether changes are noticed without anybody asking.
    fn is_watching(&self) -> bool;
    /// How each file stands.
    fn files(&self) -> BoxFuture<'_, Vec<PipelineFile>>;
    /// Has what has changed come into use, and says how each changed file stands then. `None` while somebody else does, or
    /// where there is no room for a trial.
    fn reload(&self) -> BoxFuture<'_, Option<Vec<PipelineFile>>>;
}
