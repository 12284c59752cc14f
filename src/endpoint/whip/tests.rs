//! Against a server that answers as it is told.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const OFFER: &str = "v=0\r\nan offer";

/// A server that answers each request with the next of these, and what it was asked.
async fn server(answers: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (base, heard) = (address.clone(), Arc::clone(&asked));
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            // The offer is the end of a POST, an empty line that of a DELETE.
            loop {
                request.push(stream.read_u8().await.unwrap());
                let is_deletion = request.starts_with(b"DELETE") && request.ends_with(b"\r\n\r\n");
                if is_deletion || request.ends_with(OFFER.as_bytes()) {
                    break;
                }
            }
            heard.lock().unwrap().push(String::from_utf8(request).unwrap());
            let answer = answer.replace("BASE", &base);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, asked)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

async fn publish(answers: Vec<String>, token: Option<Key>) -> (Result<Published, WhipError>, Vec<String>) {
    let (url, asked) = server(answers).await;
    let endpoint = WhipEndpoint::new(&format!("{url}/whip?key=1"), token).unwrap();
    let published = endpoint.publish(OFFER).await;
    if let Ok(published) = &published {
        endpoint.delete(published).await;
    }
    let asked = asked.lock().unwrap().clone();
    (published, asked)
}

#[tokio::test]
async fn an_offer_is_passed_on_answered_and_ended_with_its_token() {
    let headers =
        "Location: ../session/1?x=2\r\nLink: <stun:h:1>; rel=\"ice-server\"\r\nContent-Type: application/sdp\r\n";
    let answers = vec![
        answer("307 Temporary Redirect", "Location: /other/whip\r\n", ""),
        answer("308 Permanent Redirect", "Location: BASE/third/whip\r\n", ""),
        answer("201 Created", headers, "v=0\r\nan answer"),
        answer("200 OK", "", ""),
    ];
    let (published, asked) = publish(answers, Some(Key::new("secret"))).await;
    let published = published.unwrap();
    assert_eq!(published.answer, "v=0\r\nan answer");
    assert_eq!(published.ice_servers, [IceLink { url: "stun:h:1".into(), credentials: None }]);
    let lines: Vec<&str> = asked.iter().filter_map(|request| request.lines().next()).collect();
    assert_eq!(
        lines,
        [
            "POST /whip?key=1 HTTP/1.1",
            "POST /other/whip HTTP/1.1",
            "POST /third/whip HTTP/1.1",
            "DELETE /session/1?x=2 HTTP/1.1"
        ]
    );
    assert!(asked.iter().all(|request| request.to_lowercase().contains("authorization: bearer secret")), "{asked:?}");
    assert!(asked[2].contains("content-type: application/sdp"), "{}", asked[2]);
}

#[tokio::test]
async fn every_other_answer_is_an_error_that_says_what_to_do() {
    let refused = |status: &str, headers: &str, words: &str| answer(status, headers, words);
    for (answers, says, is_of_the_offer) in [
        (vec![refused("401 Unauthorized", "", "who are you?")], "401", false),
        (vec![refused("404 Not Found", "", "")], "404", false),
        (vec![refused("400 Bad Request", "", "no codec")], "no codec", true),
        (vec![refused("406 Not Acceptable", "", "")], "406", true),
        (vec![refused("415 Unsupported Media Type", "", "")], "415", false),
        (vec![refused("422 Unprocessable Content", "", "one stream only")], "one stream only", true),
        (vec![refused("503 Service Unavailable", "Retry-After: 7\r\n", "")], "503", false),
        (vec![answer("301 Moved Permanently", "Location: /a\r\n", "")], "301", false),
        (vec![answer("302 Found", "Location: /a\r\n", "")], "302", false),
        (vec![answer("307 Temporary Redirect", "", "")], "nowhere", false),
        (vec![answer("307 Temporary Redirect", "Location: ftp://h/x\r\n", "")], "nowhere", false),
        (vec![answer("307 Temporary Redirect", "Location: /a\r\n", ""); 6], "more redirects", false),
        (vec![answer("200 OK", "Location: /a\r\n", "v=0\r\n")], "200", false),
        (vec![answer("201 Created", "Location: /a\r\n", "<html>")], "without an SDP", false),
        (vec![answer("201 Created", "", &format!("v=0{}", "x".repeat(ANSWER_BYTES)))], "too long", false),
        (vec![], "cannot be reached", false),
    ] {
        let (published, _) = publish(answers, None).await;
        let error = published.unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert_eq!(error.is_of_the_offer(), is_of_the_offer, "{error}");
        assert_eq!(error.retry_after(), (says == "503").then(|| Duration::from_secs(7)), "{error}");
        assert!(!error.to_string().contains("key=1"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_names_no_location_is_published_to_all_the_same() {
    let (published, asked) = publish(vec![answer("201 Created", "", "v=0\r\n")], None).await;
    assert_eq!((published.unwrap().resource, asked.len()), (None, 1));
}

#[test]
fn an_address_is_checked_and_shown_without_what_may_be_a_key() {
    for (url, says) in
        [("whip", "not a URL"), ("rtmp://h/x", "of the web"), ("https://", "not a URL"), ("http://u:p@h/", "token")]
    {
        assert!(WhipEndpoint::new(url, None).is_err_and(|problem| problem.contains(says)), "{url}");
    }
    let endpoint = WhipEndpoint::new("https://h.example:8443/live/secret?k=secret", Some(Key::new("t"))).unwrap();
    assert_eq!(endpoint.shown(), "https://h.example:8443");
    let insecure = Url::parse("http://h.example/").unwrap();
    let request = endpoint.with_token(endpoint.client.get(insecure.clone()), &insecure).build().unwrap();
    assert!(!request.headers().contains_key("authorization"), "a token that was to be encrypted is not sent openly");
}
