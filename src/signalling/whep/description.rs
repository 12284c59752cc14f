//! SDP as far as WHEP itself reads and writes it: which ICE session an offer is of, fragments with candidates (RFC 8840),
//! and all of our candidates within an answer.
//!
//! Pure. Not in here: whether an offer can be served and how it is answered (`media::offer`).

use crate::session::IceCandidate;
use crate::signalling::limits::CANDIDATES_PER_OFFER;

/// Why a body is no fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadFragment {
    #[error("the fragment is empty: it holds lines such as a=ice-ufrag:, a=mid: and a=candidate: (RFC 8840)")]
    Empty,
    #[error("line {0} of the fragment is not of the form x=...")]
    Line(usize),
}

/// What a player sends of its ICE session by PATCH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fragment {
    ufrag: Option<String>,
    password: Option<String>,
    /// With the `a=mid` of their m-lines.
    candidates: Vec<(Option<String>, String)>,
}

impl Fragment {
    pub fn parse(text: &str) -> Result<Self, BadFragment> {
        let mut fragment = Self::default();
        let mut mid = None;
        // Of the m-line that is being read.
        let mut first = 0;
        let mut is_empty = true;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            is_empty = false;
            let mut parts = line.splitn(2, '=');
            let (Some(kind), Some(value)) = (parts.next(), parts.next()) else {
                return Err(BadFragment::Line(number + 1));
            };
            if kind.len() != 1 || !kind.bytes().all(|letter| letter.is_ascii_lowercase()) {
                return Err(BadFragment::Line(number + 1));
            }
            if kind == "m" {
                (mid, first) = (None, fragment.candidates.len());
            }
            match value.split_once(':').filter(|_| kind == "a") {
                Some(("ice-ufrag", ufrag)) => fragment.ufrag = Some(ufrag.trim().to_owned()),
                Some(("ice-pwd", password)) => fragment.password = Some(password.trim().to_owned()),
                Some(("mid", name)) => {
                    mid = Some(name.trim().to_owned());
                    fragment.candidates.iter_mut().skip(first).for_each(|(of, _)| of.clone_from(&mid));
                }
                Some(("candidate", _)) if fragment.candidates.len() < CANDIDATES_PER_OFFER => {
                    fragment.candidates.push((mid.clone(), value.trim().to_owned()));
                }
                _ => {}
            }
        }
        if is_empty { Err(BadFragment::Empty) } else { Ok(fragment) }
    }
}

/// The ICE session that an offer is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IceSession {
    ufrags: Vec<String>,
    passwords: Vec<String>,
    /// The m-line whose candidates are those of the bundle.
    tagged: Option<String>,
}

impl IceSession {
    pub fn of(offer: &str) -> Self {
        let all = |name: &'static str| offer.lines().filter_map(move |line| line.trim_end().strip_prefix(name));
        let owned = |name| all(name).map(str::to_owned).collect();
        let tagged = all("a=group:BUNDLE ").next().and_then(|mids| mids.split_ascii_whitespace().next());
        Self { ufrags: owned("a=ice-ufrag:"), passwords: owned("a=ice-pwd:"), tagged: tagged.map(str::to_owned) }
    }

    /// The candidates of a fragment; `None` if it is of another ICE session, which is how a restart is asked for.
    pub fn candidates(&self, fragment: &Fragment) -> Option<Vec<IceCandidate>> {
        let is_known =
            |known: &[String], given: &Option<String>| given.as_ref().is_none_or(|given| known.contains(given));
        if !is_known(&self.ufrags, &fragment.ufrag) || !is_known(&self.passwords, &fragment.password) {
            return None;
        }
        let candidate = |(mid, candidate): &(Option<String>, String)| {
            let sdp_mid = mid.clone().or_else(|| self.tagged.clone());
            IceCandidate {
                candidate: candidate.clone(),
                // An offer of one medium needs no name for it.
                sdp_m_line_index: sdp_mid.is_none().then_some(0),
                sdp_mid,
                username_fragment: fragment.ufrag.clone(),
            }
        };
        Some(fragment.candidates.iter().map(candidate).collect())
    }
}

/// Whether an answer holds all of our candidates already.
pub(super) fn is_complete(answer: &str) -> bool {
    answer.lines().any(|line| line.trim_end() == "a=end-of-candidates")
}

/// An answer with more of our candidates in its m-line number `m_line`, and whether these are all.
pub(super) fn with_candidates(answer: &str, m_line: usize, candidates: &[String], is_complete: bool) -> String {
    let mut whole = String::with_capacity(answer.len() + candidates.iter().map(|line| line.len() + 4).sum::<usize>());
    let add = |whole: &mut String| {
        for candidate in candidates {
            whole.push_str("a=");
            whole.push_str(candidate);
            whole.push_str("\r\n");
        }
        if is_complete {
            whole.push_str("a=end-of-candidates\r\n");
        }
    };
    let mut sections = 0;
    for line in answer.lines() {
        if line.starts_with("m=") {
            sections += 1;
            if sections == m_line + 2 {
                add(&mut whole);
            }
        }
        whole.push_str(line);
        whole.push_str("\r\n");
    }
    if sections == m_line + 1 {
        add(&mut whole);
    }
    whole
}

/// An answer that says again, where the offer says so, that RTP and RTCP share a port and nothing else will do (RFC 8858).
pub(super) fn with_exclusive_mux(answer: &str, offer: &str) -> String {
    let says = |text: &str| text.lines().any(|line| line.trim_end() == "a=rtcp-mux-only");
    if !says(offer) || says(answer) {
        return answer.to_owned();
    }
    answer.replace("a=rtcp-mux\r\n", "a=rtcp-mux\r\na=rtcp-mux-only\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\na=group:BUNDLE v a\r\nm=audio 9 X 111\r\na=mid:a\r\na=ice-ufrag:EsAw\r\n\
                         a=ice-pwd:secret\r\nm=video 9 X 96\r\na=mid:v\r\n";

    fn candidate(mid: Option<&str>, ufrag: Option<&str>) -> IceCandidate {
        IceCandidate {
            candidate: "candidate:1 1 udp 1 192.0.2.1 6000 typ host".to_owned(),
            sdp_mid: mid.map(str::to_owned),
            sdp_m_line_index: mid.is_none().then_some(0),
            username_fragment: ufrag.map(str::to_owned),
        }
    }

    #[test]
    fn the_fragment_of_the_rfc_is_read_with_the_line_that_its_candidates_are_for() {
        let line = "a=candidate:1 1 udp 1 192.0.2.1 6000 typ host";
        let session = IceSession::of(OFFER);
        let read = |text: &str| session.candidates(&Fragment::parse(text).unwrap());
        let whole = format!(
            "a=group:BUNDLE v a\r\nm=audio 9 X 111\r\na=mid:a\r\na=ice-ufrag:EsAw\r\na=ice-pwd:secret\r\n{line}\r\n\
             a=end-of-candidates\r\n"
        );
        assert_eq!(read(&whole), Some(vec![candidate(Some("a"), Some("EsAw"))]));
        assert_eq!(read(line), Some(vec![candidate(Some("v"), None)]), "of the line that speaks for the bundle");
        assert_eq!(read(&format!("m=a 9 X 1\n{line}\na=mid:a\n")), Some(vec![candidate(Some("a"), None)]));
        assert_eq!(read("a=end-of-candidates"), Some(Vec::new()));
        let alone = IceSession::of("v=0\r\n");
        assert_eq!(alone.candidates(&Fragment::parse(line).unwrap()), Some(vec![candidate(None, None)]));
    }

    #[test]
    fn other_credentials_are_a_restart() {
        let session = IceSession::of(OFFER);
        for (text, is_restart) in [
            ("a=ice-ufrag:EsAw\r\na=ice-pwd:secret\r\n", false),
            ("a=ice-ufrag:EsAw\r\n", false),
            ("a=ice-ufrag:other\r\na=ice-pwd:secret\r\n", true),
            ("a=ice-ufrag:EsAw\r\na=ice-pwd:other\r\n", true),
        ] {
            assert_eq!(session.candidates(&Fragment::parse(text).unwrap()).is_none(), is_restart, "{text}");
        }
    }

    #[test]
    fn what_is_no_fragment_is_told_by_its_line_and_too_many_candidates_are_left_out() {
        assert_eq!(Fragment::parse(" \r\n"), Err(BadFragment::Empty));
        for (text, line) in [("hello", 1), ("a=mid:0\r\n{}", 2), ("\u{e4}=1", 1), ("=x", 1), ("ab=1", 1)] {
            assert_eq!(Fragment::parse(text), Err(BadFragment::Line(line)), "{text}");
        }
        let flood = "a=candidate:1 1 udp 1 192.0.2.1 6000 typ host\r\n".repeat(10_000);
        assert_eq!(Fragment::parse(&flood).unwrap().candidates.len(), CANDIDATES_PER_OFFER);
    }

    #[test]
    fn candidates_go_into_the_line_that_they_are_for() {
        let answer = "v=0\r\nm=audio 9 X 1\r\na=rtcp-mux\r\nm=video 9 X 2\r\na=mid:v\r\n";
        let more = ["candidate:1".to_owned(), "candidate:2".to_owned()];
        let first = with_candidates(answer, 0, &more, true);
        let lines = "a=candidate:1\r\na=candidate:2\r\na=end-of-candidates\r\n";
        assert_eq!(first, format!("v=0\r\nm=audio 9 X 1\r\na=rtcp-mux\r\n{lines}m=video 9 X 2\r\na=mid:v\r\n"));
        assert!(is_complete(&first) && !is_complete(answer));
        assert_eq!(with_candidates(answer, 1, &more, true), format!("{answer}{lines}"));
        assert_eq!(with_candidates(answer, 1, &[], false), answer);
        assert_eq!(with_candidates(answer, 5, &more, true), answer, "there is no such line");
        assert_eq!(with_exclusive_mux(answer, OFFER), answer);
        let exclusive = with_exclusive_mux(answer, "m=x\r\na=rtcp-mux-only\r\n");
        assert!(exclusive.contains("a=rtcp-mux\r\na=rtcp-mux-only\r\n"), "{exclusive}");
    }
}
