//! What `mouthpiece pipelines list` and `check` print.
//!
//! In here: every description of a directory, checked, as plain data. Not in here: printing.

use std::path::PathBuf;

use super::{
    Description, DescriptionError, Kind, OutputPlaces, Parts, PipelineDir, Values, output_values, publish_values,
    render_values, viewer_values,
};
use crate::media::rungs::Rung;
use crate::timeline::FPS;

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CheckReport {
    pub file: String,
    pub status: CheckStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<DescriptionFault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    Ok,
    /// Its encoder needs hardware that is not here; everything before that in the text was fine.
    Unavailable,
    Faulty,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DescriptionFault {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    pub message: String,
}

impl From<&DescriptionError> for DescriptionFault {
    fn from(error: &DescriptionError) -> Self {
        let (line, element) = match error {
            DescriptionError::Unreadable { .. } | DescriptionError::UnknownKind { .. } => (None, None),
            DescriptionError::Syntax { line, .. } | DescriptionError::UnknownPlaceholder { line, .. } => (*line, None),
            DescriptionError::MissingElement { line, element, .. } => (*line, Some(element.clone())),
            DescriptionError::Contract { element, .. } => (None, Some(element.clone())),
        };
        Self { line, element, message: error.to_string() }
    }
}

/// Parses and checks each file; one report per file, in the order given.
pub fn check(files: &[PathBuf]) -> Vec<CheckReport> {
    files.iter().map(|path| report(path.display().to_string(), Description::read(path))).collect()
}

/// Every description of a directory with its state.
pub fn list(directory: &PipelineDir) -> Result<Vec<CheckReport>, DescriptionError> {
    let files = directory.files()?;
    Ok(files.into_iter().map(|file| report(file.clone(), directory.read(&file))).collect())
}

fn report(file: String, description: Result<Description, DescriptionError>) -> CheckReport {
    match description.and_then(|description| build_all(&description)) {
        Ok(()) => CheckReport { file, status: CheckStatus::Ok, fault: None },
        Err(error) => {
            let status = if error.is_missing_hardware() { CheckStatus::Unavailable } else { CheckStatus::Faulty };
            CheckReport { file, status, fault: Some(DescriptionFault::from(&error)) }
        }
    }
}

/// Whether an output's description can be built with places that stand in for those of an order.
pub(super) fn check_output(description: &Description) -> Result<(), DescriptionError> {
    description.build(&example_values(description.kind())).map(drop)
}

/// Builds a description in every way that it is used in.
fn build_all(description: &Description) -> Result<(), DescriptionError> {
    let values = example_values(description.kind());
    description.build(&values)?;
    for rung in
        description.rungs().into_iter().filter(|rung| description.kind() == Kind::Publish && *rung != Rung::Full)
    {
        description.rung(rung).build(&publish_values(512, 512, FPS, rung))?;
    }
    if description.kind() == Kind::Viewer {
        for parts in [
            Parts { video: false, ..Parts::ALL },
            Parts { audio: false, ..Parts::ALL },
            Parts { microphone: false, ..Parts::ALL },
        ] {
            description.with(parts).build(&values)?;
        }
    }
    Ok(())
}

/// Values that stand in for an avatar's size and a viewer's offer.
pub(super) fn example_values(kind: Kind) -> Box<Values<'static>> {
    match kind {
        Kind::Publish => publish_values(512, 512, FPS, Rung::Full),
        Kind::Viewer => viewer_values(108, 1, 111, 2),
        Kind::Render => render_values(512, 512, FPS, "/dev/null"),
        Kind::Output => output_values(OutputPlaces {
            url: "srt://127.0.0.1:9000",
            path: "/dev/null",
            folder: "/dev",
            device: "/dev/video0",
        }),
    }
    .into_boxed_slice()
}
