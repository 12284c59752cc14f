//! Where in a description something stands, so that an error can say so.
//!
//! In here: lines and columns of elements and of their properties. Not in here: what is wrong with them (`contract`,
//! GStreamer's parser). Pure.

use super::without_comment;

/// A place in a text; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// Counted with empty lines and comments.
    pub line: usize,
    /// Of the first character.
    pub column: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "line {}, column {}", self.line, self.column)
    }
}

/// A word of a description, with its place.
#[derive(Clone, Copy, Debug)]
struct Word<'a> {
    text: &'a str,
    at: Place,
}

/// An element, its properties behind it.
#[derive(Debug)]
struct Element<'a> {
    kind: Word<'a>,
    properties: Vec<Word<'a>>,
}

impl Element<'_> {
    fn property(&self, name: &str) -> Option<Word<'_>> {
        let is_it = |word: &&Word<'_>| word.text.split_once('=').is_some_and(|(property, _)| property == name);
        self.properties.iter().find(is_it).copied()
    }

    fn name(&self) -> Option<&str> {
        let (_, name) = self.property("name")?.text.split_once('=')?;
        Some(name.trim_matches('"'))
    }
}

/// Where an element of this name stands, or one of its properties if it is written there.
pub(super) fn of_named(text: &str, name: &str, property: Option<&str>) -> Option<Place> {
    let elements = elements(text);
    let element = elements.iter().find(|element| element.name() == Some(name))?;
    let written = property.and_then(|property| element.property(property));
    Some(written.or_else(|| element.property("name")).unwrap_or(element.kind).at)
}

/// Where the first element of a kind stands that has none of these names: it may be the one that is meant to.
pub(super) fn of_kind_without(text: &str, kind: &str, names: &[&str]) -> Option<Place> {
    let elements = elements(text);
    let is_other = |element: &&Element<'_>| element.name().is_none_or(|name| !names.contains(&name));
    elements.iter().filter(|element| element.kind.text == kind).find(is_other).map(|element| element.kind.at)
}

/// Where a word that GStreamer complains about stands: a property, of this element if that is told, the kind of an element,
/// an element's name, or one that GStreamer gave itself, such as `h264parse0`.
pub(super) fn of_word(text: &str, word: &str, of: Option<&str>) -> Option<Place> {
    let elements = elements(text);
    let is_of = |element: &&Element<'_>| {
        of.is_none_or(|of| element.kind.text == of || element.name() == Some(of) || is_numbered(of, element.kind.text))
    };
    let property = elements.iter().filter(is_of).find_map(|element| element.property(word)).map(|word| word.at);
    let kind = || elements.iter().find(|element| element.kind.text == word).map(|element| element.kind.at);
    let numbered = || elements.iter().find(|element| is_numbered(word, element.kind.text)).map(|found| found.kind.at);
    property.or_else(kind).or_else(|| of_named(text, word, None)).or_else(numbered).or_else(|| of_text(text, word))
}

/// Where something stands as it is, comments aside.
pub(super) fn of_text(text: &str, wanted: &str) -> Option<Place> {
    let is_part = |character: char| character.is_alphanumeric() || matches!(character, '_' | '-');
    (1..).zip(text.lines()).find_map(|(line, whole)| {
        let kept = without_comment(whole);
        let is_whole = |at: &usize| {
            let (before, after) = (kept.get(..*at), kept.get(at + wanted.len()..));
            !before.is_some_and(|before| before.ends_with(is_part))
                && !after.is_some_and(|after| after.starts_with(is_part))
        };
        let at = kept.match_indices(wanted).map(|(at, _)| at).find(is_whole)?;
        Some(Place { line, column: column(kept, at) })
    })
}

/// What GStreamer's parser complains about: words in double quotes, or the names of what it cannot link.
pub(super) fn of_fault(text: &str, message: &str) -> Option<Place> {
    let mut quoted = message.split('"').skip(1).step_by(2);
    if let Some(word) = quoted.next() {
        return of_word(text, word, quoted.next());
    }
    let linked = message.strip_prefix("could not link ").and_then(|names| names.split([',', ' ', ':']).nth(2));
    linked.and_then(|name| of_word(text, name, None)).or_else(|| of_loose_link(text))
}

/// Where a link leads from nothing or to nothing.
fn of_loose_link(text: &str) -> Option<Place> {
    let words = words(text);
    let is_link = |word: &Word<'_>| word.text == "!";
    let doubled = words.windows(2).find(|two| two.iter().all(is_link)).and_then(|two| two.last());
    let ends = words.last().filter(|word| is_link(word));
    let begins = words.first().filter(|word| is_link(word));
    doubled.or(ends).or(begins).map(|word| word.at)
}

/// `h264parse0` of `h264parse`.
fn is_numbered(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind).is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

fn elements(text: &str) -> Vec<Element<'_>> {
    let mut elements: Vec<Element<'_>> = Vec::new();
    let mut is_open = false;
    for word in words(text) {
        let is_property = word.text.split_once('=').is_some_and(|(name, _)| !name.contains(['/', '"', ',']));
        if is_property {
            if let Some(element) = elements.last_mut().filter(|_| is_open) {
                element.properties.push(word);
            }
        } else {
            // A link, caps, and a pad of another element hold no properties.
            is_open = word.text != "!" && !word.text.contains(['/', '.']);
            if is_open {
                elements.push(Element { kind: word, properties: Vec::new() });
            }
        }
    }
    elements
}

/// What stands between white space outside of double quotes, comments aside.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    for (line, whole) in (1..).zip(text.lines()) {
        let kept = without_comment(whole);
        let (mut begun, mut is_quoted) = (None, false);
        for (at, character) in kept.char_indices().chain([(kept.len(), ' ')]) {
            match character {
                '"' => {
                    is_quoted = !is_quoted;
                    begun.get_or_insert(at);
                }
                white if white.is_whitespace() && (!is_quoted || at == kept.len()) => {
                    if let Some(from) = begun.take() {
                        let text = kept.get(from..at).unwrap_or("");
                        words.push(Word { text, at: Place { line, column: column(kept, from) } });
                    }
                }
                _ => {
                    begun.get_or_insert(at);
                }
            }
        }
    }
    words
}

fn column(line: &str, at: usize) -> usize {
    line.get(..at).map_or(0, |before| before.chars().count()) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# appsrc name=comment\nappsrc name=video\n    caps=\"video/x-raw,width=2\"\n  # ! x264enc\n  \
                        ! é x264enc bitrate=5 ! video/x-h264,profile=main\n  ! h264parse ! mux.video_0\nmp4mux name=mux ! \
                        appsink sync=false";

    fn at(line: usize, column: usize) -> Option<Place> {
        Some(Place { line, column })
    }

    #[test]
    fn elements_and_their_properties_are_found_where_they_stand() {
        assert_eq!(of_named(TEXT, "video", None), at(2, 8));
        assert_eq!(of_named(TEXT, "video", Some("caps")), at(3, 5));
        assert_eq!(of_named(TEXT, "video", Some("block")), at(2, 8), "what is not written has its element's");
        assert_eq!((of_named(TEXT, "comment", None), of_named(TEXT, "mux", None)), (None, at(7, 8)));
        assert_eq!(of_word(TEXT, "bitrate", Some("x264enc")), at(5, 15));
        assert_eq!(of_word(TEXT, "x264enc", None), at(5, 7), "columns are characters");
        assert_eq!(of_word(TEXT, "h264parse0", None), at(6, 5));
        assert_eq!(of_word(TEXT, "profile", None), at(5, 40), "what is no property is still a word");
        assert_eq!((of_word(TEXT, "nothing", None), of_text(TEXT, "264parse")), (None, None));
    }

    #[test]
    fn an_element_that_lacks_its_name_is_found_by_its_kind() {
        assert_eq!(of_kind_without(TEXT, "appsink", &["video_out"]), at(7, 19));
        assert_eq!(of_kind_without(TEXT, "appsrc", &["video"]), None);
    }

    #[test]
    fn what_gstreamer_complains_about_is_found() {
        for (message, found) in [
            ("no property \"sync\" in element \"appsink\"", at(7, 27)),
            ("no property \"sync\" in element \"x264enc\"", at(7, 27)),
            ("could not link x264enc0 to mux, mux can't handle caps video/x-h264", at(7, 8)),
            ("could not link video to x264enc0", at(5, 7)),
            ("syntax error", None),
        ] {
            assert_eq!(of_fault(TEXT, message), found, "{message}");
        }
        assert_eq!(of_fault("a ! ! b", "syntax error"), at(1, 5));
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        assert_eq!(of_loose_link(TEXT), None);
        assert_eq!(of_loose_link("a ! b\n ! ! c"), at(2, 4));
        assert_eq!(of_loose_link("a ! b !"), at(1, 7));
    }
}
