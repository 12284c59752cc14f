//! Server-sent events out of bytes, as the standard has them and as servers write them.
//!
//! In here: lines that end with CR, LF or both, comments, fields, several lines of data, and what strays from the standard:
//! one newline between events, JSON without a field before it, llama.cpp's field `error:`, a last event without its end,
//! bytes that are no UTF-8. Not in here: what is in an event (`chunk`).
//! Pure; every line and every event is bounded.
//! Source: WHATWG HTML, 9.2 "Server-sent events". No crate takes all of it: `eventsource-stream` 0.2.3 panics at a byte
//! order mark and loses events between bare CRs, `sse-stream` 0.3.0 ends at a byte that is no UTF-8, and neither has bounds.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};

/// Longest line and longest event. A chunk has some hundred bytes; a whole answer from one that does not stream has some
/// thousand.
pub(super) const MAX_EVENT: usize = 256 * 1024;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// `message` if it is empty.
    pub name: String,
    pub data: String,
}

#[derive(Debug, Default)]
pub(super) struct Events {
    bytes: BytesMut,
    /// Of `bytes`, what holds no end of a line.
    searched: usize,
    /// The last line ended with CR; an LF that follows belongs to it.
    after_cr: bool,
    /// The first line has been read.
    begun: bool,
    event: Pending,
    /// The name of the next event, or of this one.
    name_behind: Option<String>,
    /// Events end where the next one begins.
    lacks_blanks: bool,
    ready: VecDeque<Event>,
}

/// The event whose lines are coming.
#[derive(Debug, Default)]
struct Pending {
    name: String,
    data: String,
    has_data: bool,
    /// JSON that no field announced.
    is_bare: bool,
    nesting: Nesting,
}

impl Pending {
    fn append(&mut self, line: &str) -> Result<(), String> {
        if self.data.len() + line.len() > MAX_EVENT {
            return Err(format!("it has an event of more than {MAX_EVENT} bytes"));
        }
        if self.has_data {
            self.data.push('\n');
        }
        self.has_data = true;
        self.data.push_str(line);
        self.nesting.read(line);
        Ok(())
    }

    /// A JSON document that has ended.
    fn is_whole(&self) -> bool {
        self.has_data && self.nesting.is_closed()
    }
}

/// How deep inside brackets JSON is.
#[derive(Debug, Default)]
struct Nesting {
    has_opened: bool,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl Nesting {
    fn read(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if std::mem::take(&mut self.is_escaped) => {}
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => {
                    self.depth += 1;
                    self.has_opened = true;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.has_opened && self.depth == 0 && !self.in_string
    }
}

impl Events {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next event of what has come.
    pub(super) fn next(&mut self) -> Result<Option<Event>, String> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(line) = self.line()? else { return Ok(None) };
            self.take(&String::from_utf8_lossy(&line))?;
        }
    }

    /// Nothing more will come: what is left behind the last whole line is an event without its end.
    pub(super) fn end(&mut self) -> Result<(), String> {
        let line = self.bytes.split();
        self.searched = 0;
        if !line.is_empty() {
            self.take(&String::from_utf8_lossy(&line))?;
        }
        self.dispatch();
        Ok(())
    }

    /// Whether an event has come that is whole but for its end.
    pub(super) fn is_unsettled(&self) -> bool {
        self.event.is_whole()
    }

    /// Nothing has followed such an event for a while, so it counts. False if there is none.
    pub(super) fn settle(&mut self) -> bool {
        self.event.is_whole() && self.dispatch()
    }

    fn line(&mut self) -> Result<Option<BytesMut>, String> {
        if self.after_cr && !self.bytes.is_empty() {
            self.after_cr = false;
            if self.bytes.first() == Some(&b'\n') {
                self.bytes.advance(1);
            }
        }
        let end = self.bytes[self.searched..].iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let length = end.map_or(self.bytes.len(), |end| self.searched + end);
        if length > MAX_EVENT {
            return Err(format!("it has a line of more than {MAX_EVENT} bytes"));
        }
        if end.is_none() {
            self.searched = length;
            return Ok(None);
        }
        self.searched = 0;
        let mut line = self.bytes.split_to(length);
        self.after_cr = self.bytes.first() == Some(&b'\r');
        self.bytes.advance(1);
        if !std::mem::replace(&mut self.begun, true) && line.starts_with(BYTE_ORDER_MARK) {
            line.advance(BYTE_ORDER_MARK.len());
        }
        Ok(Some(line))
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        let line = if std::mem::replace(&mut self.begun, true) { line } else { line.trim_start_matches('\u{feff}') };
        if self.event.is_bare {
            self.event.append(line)?;
            if self.event.is_whole() {
                self.dispatch();
            }
            return Ok(());
        }
        if line.trim().is_empty() {
            self.dispatch();
            return Ok(());
        }
        let bare = line.trim();
        if bare.starts_with('{') || bare.starts_with("[{") || matches!(bare, "[" | "[DONE]") {
            self.dispatch();
            self.event.is_bare = true;
            return self.take(line);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field.trim_end() {
            "data" => {
                if self.event.is_whole() {
                    self.lacks_blanks = true;
                    let name = self.name_behind.take();
                    self.dispatch();
                    self.event.name = name.unwrap_or_default();
                }
                self.event.append(value)?;
                if self.lacks_blanks && self.event.is_whole() {
                    self.dispatch();
                }
            }
            "event" if self.event.has_data => self.name_behind = Some(value.trim().to_owned()),
            "event" => value.trim().clone_into(&mut self.event.name),
            // llama.cpp's way to say that something went wrong.
            "error" => {
                if self.event.has_data && self.event.name != "error" {
                    self.dispatch();
                }
                "error".clone_into(&mut self.event.name);
                self.event.append(value)?;
            }
            // A comment, `id`, `retry`, and what nobody knows.
            _ => {}
        }
        Ok(())
    }

    /// False if there was no event.
    fn dispatch(&mut self) -> bool {
        let Pending { name, data, .. } = std::mem::take(&mut self.event);
        let name = self.name_behind.take().unwrap_or(name);
        // An error counts without words, anything else says nothing.
        let counts = !data.trim().is_empty() || name == "error";
        if counts {
            self.ready.push_back(Event { name, data });
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_in(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut events = Events::default();
        let mut read = Vec::new();
        for piece in pieces {
            events.push(piece);
            while let Some(Event { name, data }) = events.next().unwrap() {
                read.push((name, data));
            }
        }
        events.end().unwrap();
        while let Some(Event { name, data }) = events.next().unwrap() {
            read.push((name, data));
        }
        read
    }

    #[track_caller]
    fn is_read_as(stream: &[u8], expected: &[(&str, &str)]) {
        let owned = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter().map(|(name, data)| ((*name).to_owned(), (*data).to_owned())).collect()
        };
        for cut in 0..=stream.len() {
            assert_eq!(read_in(&[&stream[..cut], &stream[cut..]]), owned(expected), "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read_in(&bytes), owned(expected), "byte by byte");
    }

    /// The examples of the standard, and its parts.
    #[test]
    fn streams_are_read_as_the_standard_has_them() {
        is_read_as(b"data: YHOO\ndata: +2\ndata: 10\n\n", &[("", "YHOO\n+2\n10")]);
        is_read_as(
            b": test\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third\n\n",
            &[("", "first"), ("", "second"), ("", " third")],
        );
        is_read_as(b"data\n\ndata\ndata\n\ndata: x\nretry: 10\n\n", &[("", "x")]);
        is_read_as(b"event: add\ndata: 7\n\nevent: remove\n\ndata: 8\n\n", &[("add", "7"), ("", "8")]);
        is_read_as(b"data: {}\nevent: late\n\ndata: {\"a\":1}\n\n", &[("late", "{}"), ("", "{\"a\":1}")]);
        is_read_as("\u{feff}data: x\n\n".as_bytes(), &[("", "x")]);
        for end in ["\n", "\r\n", "\r"] {
            let stream = format!("data: a{end}data: b{end}{end}: c{end}{end}event: e{end}data: d{end}{end}");
            is_read_as(stream.as_bytes(), &[("", "a\nb"), ("e", "d")]);
        }
    }

    #[test]
    fn what_strays_from_the_standard_is_read_too() {
        is_read_as(
            b"data: {\"a\":1}\ndata: {\"a\":\"}{\"}\ndata: [DONE]\n",
            &[("", "{\"a\":1}"), ("", "{\"a\":\"}{\"}"), ("", "[DONE]")],
        );
        is_read_as(
            b"event: m\ndata: {\"a\":1}\nevent: error\ndata: {\"b\":2}\n",
            &[("m", "{\"a\":1}"), ("error", "{\"b\":2}")],
        );
        is_read_as(b"data: {\ndata:  \"a\": 1\ndata: }\n\ndata: {}\n\n", &[("", "{\n \"a\": 1\n}"), ("", "{}")]);
        is_read_as(b"{\n  \"a\": [\n\n    1\n  ]\n}\n", &[("", "{\n  \"a\": [\n\n    1\n  ]\n}")]);
        is_read_as(b"{\"a\":1}\n{\"b\":\"\\\"}\"}\n", &[("", "{\"a\":1}"), ("", "{\"b\":\"\\\"}\"}")]);
        is_read_as(b"{\"a\": ", &[("", "{\"a\": ")]);
        is_read_as(b"error: {\"code\":500}\n\n", &[("error", "{\"code\":500}")]);
        is_read_as(b"data: {}\nerror: {\"code\":500}\n\n", &[("", "{}"), ("error", "{\"code\":500}")]);
        is_read_as(b"event: error\n\n", &[("error", "")]);
        is_read_as(b"data: x", &[("", "x")]);
        is_read_as(b"<html>\n<p>data</p>\n", &[]);
    }

    #[test]
    fn bytes_that_are_no_text_cost_one_character() {
        is_read_as(b": ping \xe9\n\ndata: a \xff b \xf0\x9f\x98\"\n\n", &[("", "a \u{fffd} b \u{fffd}\"")]);
        is_read_as("data: \u{1f600}\n\n".as_bytes(), &[("", "\u{1f600}")]);
    }

    #[test]
    fn events_come_as_soon_as_they_are_whole() {
        let mut events = Events::default();
        let mut pushed = |piece: &[u8]| {
            events.push(piece);
            events.next().unwrap().map(|event| event.data)
        };
        assert_eq!(pushed(b"data: {}\r\r"), Some("{}".to_owned()));
        assert_eq!(pushed(b"data: {}\r\n\r\n"), Some("{}".to_owned()));
        assert_eq!(pushed(b"data: {}\n"), None, "its name may follow");
        assert!(events.is_unsettled() && events.settle() && !events.is_unsettled() && !events.settle());
        assert_eq!(events.next().unwrap().map(|event| event.data), Some("{}".to_owned()));
    }

    #[test]
    fn lines_and_events_are_bounded() {
        let mut events = Events::default();
        events.push(&vec![b'x'; MAX_EVENT + 1]);
        assert!(events.next().unwrap_err().contains("a line of more than 262144 bytes"));
        let mut events = Events::default();
        for _ in 0..3 {
            events.push(format!("data: {}\n", "x".repeat(100_000)).as_bytes());
        }
        assert!(events.next().unwrap_err().contains("an event of more than 262144 bytes"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let cut = cut.min(bytes.len());
            prop_assert_eq!(read_in(&[&bytes]), read_in(&[&bytes[..cut], &bytes[cut..]]));
        }

        #[test]
        fn pieces_do_not_matter(parts in prop::collection::vec(prop::sample::select(
            vec!["data:", "data: {", "}", "\r", "\n", "\r\n", "event: e", "error: x", ":", "{", "[1]", "\u{feff}", "\""]), 0..20)) {
            let bytes: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
            prop_assert_eq!(read_in(&[parts.concat().as_bytes()]), read_in(&bytes));
        }
    }
}
