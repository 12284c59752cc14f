//! Whether masks of MuseTalk's avatars can come from face parsing, which is optional.
//!
//! Nothing is said of it where neither its weights nor a published MuseTalk is installed.

use std::path::Path;

use super::Check;
use crate::models::catalog::KNOWN;
use crate::musetalk::{DeviceChoice, FaceParser, find_device};

const NAME: &str = "parsing";

pub(super) fn check(models: &Path) -> Option<Check> {
    let file = FaceParser::path(models);
    if !file.exists() {
        let is_wanted = KNOWN.iter().any(|model| models.join(model.name).join("config.json").is_file());
        let fix = "none needed; models/README.md says where upstream's weights come from, and under which terms";
        let found = format!("masks of new avatars are made of the face's points, as there is no {}", file.display());
        return is_wanted.then(|| Check::note(NAME, found, fix));
    }
    Some(match find_device(DeviceChoice::Cpu).and_then(|device| FaceParser::load(&file, device)) {
        Ok(_) => Check::ok(NAME, format!("masks of new avatars come from {}", file.display())),
        Err(error) => {
            let fix = format!("get {} again, or remove it: masks are made without it then", file.display());
            Check::note(NAME, error.to_string(), fix)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn face_parsing_is_spoken_of_only_where_it_could_be_used() {
        let models = tempfile::tempdir().unwrap();
        assert!(check(models.path()).is_none());
        let model = models.path().join(KNOWN[1].name);
        std::fs::create_dir(&model).unwrap();
        std::fs::write(model.join("config.json"), "{}").unwrap();
        let missing = check(models.path()).unwrap();
        assert!(missing.status == Status::Note && missing.found.contains("79999_iter.pth"), "{missing:?}");
        let file = FaceParser::path(models.path());
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        std::fs::write(&file, b"PK\x03\x04").unwrap();
        let damaged = check(models.path()).unwrap();
        assert!(damaged.status == Status::Note && damaged.fix.unwrap().contains("remove it"), "{}", damaged.found);
    }
}
