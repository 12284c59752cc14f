//! SDP as text: its lines, its m-lines and their attributes, as RFC 8866 has them.
//!
//! In here: reading what anybody may have written, within limits, without judging what it means. Not in here: what an
//! offer allows (`offer`), GStreamer.

use crate::session::OFFER_BYTES;

/// One with a dozen m-lines stays far below this.
const MAX_LINES: usize = 4_000;
/// M-lines of one offer; a browser has one a track.
pub const MAX_MEDIA: usize = 32;

/// An attribute's name and value, `("rtpmap", "96 VP8/90000")`; a flag has an empty value.
type Attribute<'a> = (&'a str, &'a str);

/// A session description.
#[derive(Debug)]
pub struct Sdp<'a> {
    /// Who wrote it and in which session: the first two words of its o= line.
    pub origin: String,
    pub attributes: Vec<Attribute<'a>>,
    pub media: Vec<Media<'a>>,
}

/// An m-line and what follows it.
#[derive(Debug)]
pub struct Media<'a> {
    pub kind: &'a str,
    pub port: u16,
    pub protocol: &'a str,
    /// As they stand in the m-line.
    pub formats: &'a str,
    /// Those of the formats that are payload types; a data channel's is none.
    pub payload_types: Vec<u8>,
    pub attributes: Vec<Attribute<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl<'a> Sdp<'a> {
    /// Or what is wrong with the text.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        if text.len() > OFFER_BYTES {
            return Err(format!("the SDP has {} bytes, more than {OFFER_BYTES}", text.len()));
        }
        // LF alone and a last line without either are common in what people paste and in clients of their own.
        let lines: Vec<&str> = text.trim_end_matches(['\r', '\n']).lines().collect();
        if lines.len() > MAX_LINES {
            return Err(format!("the SDP has {} lines, more than {MAX_LINES}", lines.len()));
        }
        let mut sdp = Self { origin: String::new(), attributes: Vec::new(), media: Vec::new() };
        let mut kinds_seen = String::new();
        for (number, line) in lines.iter().enumerate() {
            let (kind, value) =
                split_line(line).ok_or_else(|| format!("line {} of the SDP is not of the form x=...", number + 1))?;
            if sdp.media.is_empty() && kind != 'm' {
                kinds_seen.push(kind);
            }
            match kind {
                'm' if sdp.media.len() == MAX_MEDIA => {
                    return Err(format!("the SDP has more than {MAX_MEDIA} m-lines"));
                }
                'm' => sdp
                    .media
                    .push(Media::parse(value).ok_or_else(|| format!("line {} of the SDP is no m-line", number + 1))?),
                'o' => sdp.origin = value.split(' ').take(2).collect::<Vec<_>>().join(" "),
                'a' => {
                    let attribute = value.split_once(':').unwrap_or((value, ""));
                    sdp.media.last_mut().map_or(&mut sdp.attributes, |media| &mut media.attributes).push(attribute);
                }
                _ => {}
            }
        }
        let complete = kinds_seen.starts_with("vos") && kinds_seen.contains('t') && lines.first() == Some(&"v=0");
        if complete { Ok(sdp) } else { Err("the SDP does not begin with v=0, o=, s= and t= lines".to_owned()) }
    }

    /// An attribute of an m-line, or of the session where the m-line has none.
    pub fn inherited(&self, media: &Media<'a>, name: &str) -> Option<&'a str> {
        media.attribute(name).or_else(|| find(&self.attributes, name))
    }

    /// Every value of an attribute of an m-line, or of the session where the m-line has none.
    pub fn all_inherited<'b>(&'b self, media: &'b Media<'a>, name: &'b str) -> Vec<&'a str> {
        let own: Vec<&str> = media.all(name).collect();
        if own.is_empty() { all(&self.attributes, name).collect() } else { own }
    }

    /// The media identifiers of the first BUNDLE group that holds this one (RFC 9143).
    pub fn bundle_of(&self, mid: &str) -> Option<Vec<&'a str>> {
        all(&self.attributes, "group")
            .filter_map(|group| group.strip_prefix("BUNDLE"))
            .map(|mids| mids.split_ascii_whitespace().collect::<Vec<_>>())
            .find(|mids| mids.contains(&mid))
    }

    /// A media identifier that a BUNDLE group names and no m-line has.
    pub fn missing_mid(&self) -> Option<&'a str> {
        let has = |mid: &&str| self.media.iter().any(|media| media.attribute("mid") == Some(*mid));
        all(&self.attributes, "group")
            .filter_map(|group| group.strip_prefix("BUNDLE"))
            .flat_map(str::split_ascii_whitespace)
            .find(|mid| !has(mid))
    }

    /// A media identifier that two m-lines have.
    pub fn repeated_mid(&self) -> Option<&'a str> {
        let mids: Vec<&str> = self.media.iter().filter_map(|media| media.attribute("mid")).collect();
        mids.iter().enumerate().find(|(at, mid)| mids[..*at].contains(mid)).map(|(_, mid)| *mid)
    }

    /// Which way media go by this m-line, as who wrote it sees it; both ways if nothing is said (RFC 3264).
    pub fn direction(&self, media: &Media<'a>) -> Direction {
        let said = media.attributes.iter().chain(&self.attributes).find_map(|(name, _)| match *name {
            "sendrecv" => Some(Direction::SendRecv),
            "sendonly" => Some(Direction::SendOnly),
            "recvonly" => Some(Direction::RecvOnly),
            "inactive" => Some(Direction::Inactive),
            _ => None,
        });
        said.unwrap_or(Direction::SendRecv)
    }
}

impl<'a> Media<'a> {
    /// `video 9 UDP/TLS/RTP/SAVPF 96 97`
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let kind = words.next().filter(|kind| is_token(kind))?;
        let port = words.next()?.split('/').next()?.parse().ok()?;
        let is_protocol = |protocol: &&str| protocol.split('/').all(is_token);
        let protocol = words.next().filter(is_protocol)?;
        let formats = words.next()?.trim_end_matches(' ');
        if !formats.split(' ').all(is_token) {
            return None;
        }
        let payload_types =
            formats.split(' ').filter_map(|format| format.parse().ok()).filter(|pt| *pt < 128).collect();
        Some(Self { kind, port, protocol, formats, payload_types, attributes: Vec::new() })
    }

    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        find(&self.attributes, name)
    }

    pub fn all<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'a str> + 'b {
        all(&self.attributes, name)
    }

    /// Whether it is not rejected: its port is a number, or it has none but that of its bundle.
    pub fn is_open(&self) -> bool {
        self.port != 0 || self.attribute("bundle-only").is_some()
    }

    /// Every encoding this m-line gives a payload type: `("108", "H264/90000")` is `H264`.
    pub fn encodings(&self, payload_type: u8) -> Vec<&'a str> {
        self.rtpmaps().filter(|(pt, _)| *pt == payload_type).map(|(_, rest)| until_slash(rest)).collect()
    }

    fn rtpmaps(&self) -> impl Iterator<Item = (u8, &'a str)> + '_ {
        self.all("rtpmap").filter_map(|value| {
            let (payload_type, encoding) = value.split_once(' ')?;
            Some((payload_type.parse().ok()?, encoding.trim()))
        })
    }

    /// Names of its codecs, for people: a few, and those that are no media left out.
    pub fn codecs(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = self
            .rtpmaps()
            .map(|(_, encoding)| until_slash(encoding))
            .filter(|name| !matches!(*name, "rtx" | "red" | "ulpfec" | "flexfec-03" | "telephone-event" | "CN"))
            .map(|name| name.get(..20).unwrap_or(name))
            .collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(10);
        names
    }

    /// Payload types that are listed in the m-line and mapped to exactly this encoding.
    pub fn mapped_to<'b>(&'b self, encoding: &'b str) -> impl Iterator<Item = u8> + 'b {
        self.rtpmaps()
            .filter(move |(pt, found)| found.eq_ignore_ascii_case(encoding) && self.payload_types.contains(pt))
            .map(|(pt, _)| pt)
    }

    /// A parameter of a payload type's `a=fmtp`.
    pub fn parameter(&self, payload_type: u8, name: &str) -> Option<&'a str> {
        let parameters = self.all("fmtp").find_map(|value| {
            let (pt, parameters) = value.split_once(' ')?;
            (pt.parse() == Ok(payload_type)).then_some(parameters)
        })?;
        let pairs = parameters.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(found, _)| found.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// The number of a header extension of this name, of those that have one byte (RFC 8285).
    pub fn extension(&self, name: &str) -> Option<u8> {
        self.all("extmap").find_map(|value| {
            let (number, rest) = value.split_once(' ')?;
            let number: u8 = until_slash(number).parse().ok()?;
            ((1..=14).contains(&number) && rest.split(' ').next() == Some(name)).then_some(number)
        })
    }

    /// Whether this kind of feedback is offered for a payload type, or for all.
    pub fn has_feedback(&self, payload_type: u8, kind: &str) -> bool {
        self.all("rtcp-fb")
            .filter_map(|value| value.split_once(' '))
            .any(|(pt, found)| (pt == "*" || pt.parse() == Ok(payload_type)) && found.trim().eq_ignore_ascii_case(kind))
    }
}

fn find<'a>(attributes: &[Attribute<'a>], name: &str) -> Option<&'a str> {
    attributes.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
}

fn all<'a: 'b, 'b>(attributes: &'b [Attribute<'a>], name: &'b str) -> impl Iterator<Item = &'a str> + 'b {
    attributes.iter().filter(move |(found, _)| *found == name).map(|(_, value)| *value)
}

fn until_slash(encoding: &str) -> &str {
    encoding.split('/').next().unwrap_or(encoding)
}

/// RFC 8866's token.
pub fn is_token(word: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&byte);
    !word.is_empty() && word.bytes().all(is_part)
}

fn split_line(line: &str) -> Option<(char, &str)> {
    let (kind, value) = line.split_once('=')?;
    let mut letters = kind.chars();
    let letter = letters.next().filter(char::is_ascii_lowercase)?;
    (letters.next().is_none() && !value.chars().any(char::is_control)).then_some((letter, value))
}
