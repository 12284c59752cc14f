//! Settings of ways out of sessions besides their viewers.
//!
//! Not in here: what an output is (`media::output`), which are running (`server::sessions::outputs`).

use std::path::PathBuf;

use super::ConfigError;
use crate::media::check_address;
use crate::session::{OutputKind, OutputOrder};

/// Outputs of all sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outputs {
    /// Whether whoever may use the API may start and stop some.
    pub(crate) allowed: bool,
    /// Where recordings and HLS go.
    pub(crate) folder: Option<PathBuf>,
    /// The video device of a virtual camera.
    pub(crate) camera: Option<String>,
    /// Those that every session begins with.
    pub(crate) always: Vec<OutputOrder>,
}

/// The table `[outputs]` of the settings file.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    camera: Option<String>,
    record: bool,
    hls: bool,
    push_file: Option<PathBuf>,
}

impl Table {
    pub(super) fn resolve(self, allowed: bool, folder: Option<PathBuf>) -> Result<Outputs, ConfigError> {
        let entry = |field, given: String, wanted| ConfigError::Entry { field, given, wanted };
        // They end up between quotes in descriptions; '%' counts segments there.
        let is_plain = |text: &str| !text.contains(['%', '"', '\\']) && !text.contains(char::is_control);
        if let Some(given) = folder
            .as_ref()
            .and_then(|folder| folder.to_str().is_none_or(|text| !is_plain(text)).then(|| folder.display().to_string()))
        {
            return Err(entry("record_dir", given, "a path of UTF-8 without '%', '\"' and '\\'"));
        }
        if let Some(given) = self.camera.clone().filter(|camera| !camera.starts_with("/dev/video") || !is_plain(camera))
        {
            return Err(entry("outputs.camera", given, "a video device such as /dev/video10"));
        }
        let kinds = [(self.record, "outputs.record", OutputKind::Record), (self.hls, "outputs.hls", OutputKind::Hls)];
        let mut always = Vec::new();
        for (_, field, kind) in kinds.into_iter().filter(|(is_wanted, ..)| *is_wanted) {
            if folder.is_none() {
                return Err(entry(field, "true".to_owned(), "possible without record_dir, the folder to write into"));
            }
            always.push(OutputOrder { kind, url: None, name: None });
        }
        if let Some(file) = &self.push_file {
            always.extend(pushes(file)?);
        }
        Ok(Outputs { allowed, folder, camera: self.camera, always })
    }
}

/// The addresses in a file, one a line; their errors never show them.
fn pushes(file: &PathBuf) -> Result<Vec<OutputOrder>, ConfigError> {
    let error = |problem: String| ConfigError::Endpoint {
        field: "outputs.push_file",
        problem: format!("{}: {problem}", file.display()),
    };
    let text = std::fs::read_to_string(file).map_err(|problem| error(problem.to_string()))?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let order = |(number, url): (usize, &str)| {
        let kind = if url.starts_with("srt:") { OutputKind::Srt } else { OutputKind::Rtmp };
        let checked =
            check_address(kind, Some(url)).map_err(|problem| error(format!("line {}: {problem}", number + 1)));
        checked.map(|_| OutputOrder { kind, url: Some(url.to_owned()), name: None })
    };
    lines.map(order).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(table: Table, folder: Option<&str>) -> Result<Outputs, ConfigError> {
        table.resolve(true, folder.map(PathBuf::from))
    }

    #[test]
    fn what_every_session_begins_with_is_checked_before_there_is_one() {
        let error = resolve(Table { record: true, ..Table::default() }, None).unwrap_err().to_string();
        assert!(error.contains("record_dir"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pushes");
        std::fs::write(&file, "# The studio's.\nrtmps://live.example.org/app/sk-secret\n\nsrt://10.0.0.1:9000\n")
            .unwrap();
        let table = || Table { record: true, push_file: Some(file.clone()), ..Table::default() };
        let kinds: Vec<OutputKind> =
            resolve(table(), Some("/films")).unwrap().always.iter().map(|order| order.kind).collect();
        assert_eq!(kinds, [OutputKind::Record, OutputKind::Rtmp, OutputKind::Srt]);
        std::fs::write(&file, "rtmps://live.example.org/app/sk-secret\nhttp://sk-secret\n").unwrap();
        let error = resolve(table(), Some("/films")).unwrap_err().to_string();
        assert!(error.contains("line 2: url: its scheme") && !error.contains("sk-secret"), "{error}");
    }

    #[test]
    fn a_folder_or_a_camera_that_a_description_would_misread_is_refused() {
        for folder in ["/a%d", "/a\"b", "/a\\b", "/a\nb"] {
            assert!(resolve(Table::default(), Some(folder)).is_err(), "{folder:?}");
        }
        for camera in ["video10", "/etc/passwd", "/dev/video0\" ! filesink"] {
            assert!(resolve(Table { camera: Some(camera.into()), ..Table::default() }, None).is_err(), "{camera}");
        }
    }
}
