//! What `mouthpiece pipelines list` and `check` print.
//!
//! In here: every description of a directory, checked, as plain data. Not in here: printing.

use std::path::PathBuf;

use gstreamer as gst;

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

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DescriptionFault {
    /// Where it stands, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// In characters, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The element that is not as it has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub element: Option<String>,
    /// In a line, with what would be right.
    pub message: String,
}

impl DescriptionFault {
    /// Of something that stands nowhere in the file.
    pub(in crate::media) fn told(message: String) -> Self {
        Self { line: None, column: None, element: None, message }
    }

    /// Without where the folder lies on this machine.
    pub(in crate::media) fn without(self, directory: &PipelineDir) -> Self {
        match directory {
            PipelineDir::Directory(folder) => {
                let message = self.message.replace(&format!("{}/", folder.display()), "");
                Self { message, ..self }
            }
            PipelineDir::Embedded => self,
        }
    }
}

impl From<&DescriptionError> for DescriptionFault {
    fn from(error: &DescriptionError) -> Self {
        let element = match error {
            DescriptionError::MissingElement { element, .. } | DescriptionError::Contract { element, .. } => {
                Some(element.clone())
            }
            _ => None,
        };
        let (line, column) = error.place().map(|at| (at.line, at.column)).unzip();
        Self { line, column, element, message: error.to_string() }
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

/// One description of a directory with its state.
pub(in crate::media) fn check_one(directory: &PipelineDir, file: &str) -> CheckReport {
    report(file.to_owned(), directory.read(file))
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
pub(in crate::media) fn check_output(description: &Description) -> Result<(), DescriptionError> {
    description.build(&example_values(description.kind())).map(drop)
}

/// Builds a description in every way that it is used in.
pub(in crate::media) fn build_all(description: &Description) -> Result<(), DescriptionError> {
    builds(description).map(drop)
}

/// A pipeline for each way in which a description is used, each with a word for it.
pub(in crate::media) fn builds(
    description: &Description,
) -> Result<Vec<(&'static str, gst::Pipeline)>, DescriptionError> {
    let values = example_values(description.kind());
    let first = if description.kind() == Kind::Publish { Rung::Full.as_str() } else { "all" };
    let mut built = vec![(first, description.build(&values)?)];
    for rung in
        description.rungs().into_iter().filter(|rung| description.kind() == Kind::Publish && *rung != Rung::Full)
    {
        let values = publish_values(512, 512, FPS, rung);
        built.push((rung.as_str(), description.rung(rung).build(&values)?));
    }
    if description.kind() == Kind::Viewer {
        for (without, parts) in [
            ("without video", Parts { video: false, ..Parts::ALL }),
            ("without audio", Parts { audio: false, ..Parts::ALL }),
            ("without microphone", Parts { microphone: false, ..Parts::ALL }),
        ] {
            built.push((without, description.with(parts).build(&values)?));
        }
    }
    Ok(built)
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
