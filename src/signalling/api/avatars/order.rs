//! What a request asks for when it makes an avatar: the query of its URL.
//!
//! In here: the parameters, each once and each as it must be. Not in here: the file, which is the body.

use form_urlencoded::parse;

use super::wrong;
use crate::avatar::manifest::MatteSource;
use crate::ids::AvatarId;
use crate::media::Trim;
use crate::signalling::api::Problem;
use crate::signalling::avatar_making::AvatarOrder;
use crate::signalling::protocol::clipped;

/// Of a name, in characters.
const LONGEST_NAME: usize = 80;
/// Of the licence and the consent, in characters.
const LONGEST_TEXT: usize = 1000;
/// Of the name of a file, in characters.
const LONGEST_FILE: usize = 200;
/// Of the longer side of an avatar, in pixels.
const SIDES: std::ops::RangeInclusive<u32> = 256..=1920;
/// More faces are not told apart.
const MOST_FACES: usize = 100;

/// Reads a query; an error names the parameter.
pub(super) fn read(query: &str) -> Result<AvatarOrder, Problem> {
    let mut given: Vec<(String, String)> = Vec::new();
    for (name, value) in parse(query.as_bytes()) {
        if !PARAMETERS.contains(&&*name) {
            return Err(wrong(&format!("{}: there is no such parameter", clipped(&name, 40))));
        }
        if given.iter().any(|(known, _)| *known == name) {
            return Err(wrong(&format!("{name}: it is given twice")));
        }
        given.push((name.into_owned(), value.into_owned()));
    }
    let value = |name: &str| given.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let id: AvatarId = value("id")
        .ok_or_else(|| wrong("id: it is missing: what programs will call the avatar"))?
        .parse()
        .map_err(|error: crate::ids::InvalidAvatarId| wrong(&format!("id: {error}")))?;
    let name = value("name").unwrap_or(id.as_str());
    Ok(AvatarOrder {
        name: text("name", Some(name), LONGEST_NAME)?,
        licence: text("licence", value("licence"), LONGEST_TEXT)?,
        consent: text("consent", value("consent"), LONGEST_TEXT)?,
        file_name: file_name(value("file").unwrap_or("upload")),
        language: language(value("language").unwrap_or("en-us"))?,
        face: value("face").filter(|value| !value.is_empty()).map(face).transpose()?,
        still: flag("still", value("still"))?,
        whole: flag("whole", value("whole"))?,
        mirror: flag("mirror", value("mirror"))?,
        closed: flag("closed", value("closed"))?,
        alpha: value("alpha").filter(|value| !value.is_empty()).map(alpha).transpose()?,
        replace: flag("replace", value("replace"))?,
        trim: value("trim").filter(|value| !value.is_empty()).map(trim).transpose()?.unwrap_or_default(),
        side: value("size").filter(|value| !value.is_empty()).map(side).transpose()?,
        id,
    })
}

const PARAMETERS: [&str; 15] = [
    "id", "name", "licence", "consent", "file", "language", "face", "still", "whole", "mirror", "closed", "alpha",
    "trim", "size", "replace",
];

fn alpha(value: &str) -> Result<MatteSource, Problem> {
    match value {
        "own" => Ok(MatteSource::Own),
        "plain" => Ok(MatteSource::Plain),
        _ => Err(wrong("alpha: it must be own, the file's alpha channel, or plain, to cut from a plain background")),
    }
}

fn text(parameter: &str, value: Option<&str>, most: usize) -> Result<String, Problem> {
    let text = value.ok_or_else(|| wrong(&format!("{parameter}: it is missing")))?.trim();
    let characters = text.chars().count();
    if text.is_empty() {
        Err(wrong(&format!("{parameter}: it is empty")))
    } else if characters > most {
        Err(wrong(&format!("{parameter}: {characters} characters are too many: at most {most} are kept")))
    } else if text.contains(char::is_control) {
        Err(wrong(&format!("{parameter}: it must be one line, without control characters")))
    } else {
        Ok(text.to_owned())
    }
}

/// Only for people to recognise it by: no folders, no control characters.
fn file_name(given: &str) -> String {
    let name = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = name.chars().filter(|character| !character.is_control()).take(LONGEST_FILE).collect();
    let name = name.trim();
    if name.is_empty() { "upload".to_owned() } else { name.to_owned() }
}

fn language(given: &str) -> Result<String, Problem> {
    let language = given.to_lowercase();
    let is_tag = (2..=35).contains(&language.len())
        && language.split('-').enumerate().all(|(at, part)| {
            let least = if at == 0 { 2 } else { 1 };
            (least..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
    if is_tag { Ok(language) } else { Err(wrong("language: it is no BCP 47 tag such as en-us")) }
}

fn face(given: &str) -> Result<usize, Problem> {
    let number = given.parse().ok().filter(|number| (1..=MOST_FACES).contains(number));
    number.ok_or_else(|| wrong("face: it is a number from 1, counted from the left"))
}

fn side(given: &str) -> Result<u32, Problem> {
    let side = given.parse().ok().filter(|side| SIDES.contains(side));
    side.ok_or_else(|| wrong(&format!("size: it is {} to {} pixels", SIDES.start(), SIDES.end())))
}

fn trim(given: &str) -> Result<Trim, Problem> {
    given.parse().map_err(|error: crate::media::TrimError| wrong(&format!("trim: {error}")))
}

fn flag(parameter: &str, value: Option<&str>) -> Result<bool, Problem> {
    match value {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(wrong(&format!("{parameter}: it is true or false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "id=anna&licence=CC0&consent=Drawn";

    #[test]
    fn what_is_left_out_has_a_default_and_names_of_files_lose_their_folders() {
        let order = read(&format!("{LEAST}&file=C%3A%5Cphotos%2F..%2Fa%00nna.jpg")).unwrap();
        assert_eq!((order.name.as_str(), order.language.as_str(), order.face), ("anna", "en-us", None));
        assert_eq!(order.file_name, "anna.jpg");
        assert!(
            !order.still && !order.mirror && !order.closed && !order.whole && !order.replace && order.trim.is_all()
        );
    }

    #[test]
    fn what_it_is_cut_out_by_is_one_of_two() {
        let alpha = |value: &str| read(&format!("{LEAST}&alpha={value}")).unwrap().alpha;
        let read = ["own", "plain", ""].map(alpha);
        assert_eq!(read, [Some(MatteSource::Own), Some(MatteSource::Plain), None]);
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        for (query, named) in [
            ("licence=x&consent=y", "id"),
            ("id=..%2Fx&licence=x&consent=y", "id"),
            ("id=anna&consent=y", "licence"),
            ("id=anna&licence=x&consent=%20", "consent"),
            ("id=anna&licence=x%0Ay&consent=y", "licence"),
            ("id=anna&licence=x&consent=y&face=0", "face"),
            ("id=anna&licence=x&consent=y&still=1", "still"),
            ("id=anna&licence=x&consent=y&alpha=green", "alpha"),
            ("id=anna&licence=x&consent=y&trim=5", "trim"),
            ("id=anna&licence=x&consent=y&size=9000", "size"),
            ("id=anna&licence=x&consent=y&language=%2Fetc", "language"),
            ("id=anna&licence=x&consent=y&nobody=1", "nobody"),
            ("id=anna&id=anna&licence=x&consent=y", "id"),
        ] {
            let problem = read(query).unwrap_err();
            assert!(problem.message.starts_with(&format!("{named}: ")), "{query}: {}", problem.message);
        }
    }
}
