//! Tokens that let somebody in, and all that must not.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::*;

const SECRET: &str = "a secret of the tests, thirty-two+";

/// The key pair of RFC 8037, appendix A, and the head of its PKCS #8.
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const PRIVATE: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const PKCS8_HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn by_secret() -> Access {
    Access::open(Settings { secret: Some(Key::new(SECRET)), ..Settings::default() }).await.unwrap()
}

fn claims() -> Value {
    json!({"sub": "acme", "may": ["view", "speak"], "exp": now() + 60})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// Signed with HS256, whatever the header says.
fn signed(header: &Value, claims: &Value, secret: &str) -> String {
    let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn hs256(claims: &Value) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET)
}

fn eddsa(key_id: Option<&str>) -> String {
    let der = [&PKCS8_HEAD[..], &URL_SAFE_NO_PAD.decode(PRIVATE).unwrap()].concat();
    let header = Header { kid: key_id.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
    encode(&header, &claims(), &EncodingKey::from_ed_der(&der)).unwrap()
}

fn key_set(key_id: &str) -> String {
    json!({"keys": [
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": key_id},
        {"kty": "OKP", "crv": "Ed25519", "x": PUBLIC, "kid": key_id, "use": "sig"},
    ]})
    .to_string()
}

#[tokio::test]
async fn a_token_allows_what_it_says_to_the_sessions_of_its_tenant() {
    let access = by_secret().await;
    let grant = access.check(&hs256(&claims())).unwrap();
    assert!(grant.may(Permission::View) && grant.may(Permission::Speak));
    assert!(!grant.may_any(&[Permission::Converse, Permission::Microphone, Permission::Administer]));
    assert_eq!((grant.inner_name("room").as_str(), grant.session()), ("acme.room", None));
    let mut restricted = with("session", json!("room"));
    restricted["avatar"] = json!("anna");
    let grant = access.check(&hs256(&restricted)).unwrap();
    assert_eq!(grant.session(), Some("room"));
    assert_eq!(grant.avatar().map(crate::ids::AvatarId::as_str), Some("anna"));
    assert_eq!(access.check(&hs256(&with("sub", json!("main")))).unwrap().inner_name("room"), "room");
    assert!(access.check(&hs256(&with("iat", json!("of no use here")))).is_ok());
}

#[tokio::test]
async fn what_is_made_here_is_taken_here_and_nothing_wrong_is_made() {
    let made = |claims: &Claims| sign(&Key::new(SECRET), claims);
    let claims: Claims = serde_json::from_value(claims()).unwrap();
    assert!(by_secret().await.check(&made(&claims).unwrap()).is_ok());
    assert!(made(&Claims { sub: "a.b".into(), ..claims.clone() }).unwrap_err().to_string().contains("sub"));
    assert!(made(&Claims { session: Some(String::new()), ..claims }).unwrap_err().to_string().contains("session"));
}

#[tokio::test]
async fn a_token_that_anybody_could_have_made_lets_nobody_in() {
    let access = by_secret().await;
    let typ = |alg: &str| json!({"alg": alg, "typ": "JWT"});
    let good = hs256(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let more = URL_SAFE_NO_PAD.encode(with("may", json!(["administer"])).to_string());
    let changed = format!("{}.{more}.{signature}", message.split('.').next().unwrap());
    for (token, fault) in [
        (String::new(), TokenFault::Malformed),
        ("garbage".to_owned(), TokenFault::Malformed),
        ("a.b.c".to_owned(), TokenFault::Malformed),
        (format!("{message}."), TokenFault::Signature),
        (message.to_owned(), TokenFault::Malformed),
        (changed, TokenFault::Signature),
        (signed(&typ("HS256"), &claims(), "another secret of the same length+"), TokenFault::Signature),
        (signed(&typ("HS256"), &claims(), ""), TokenFault::Signature),
        (signed(&typ("none"), &claims(), SECRET), TokenFault::Malformed),
        (signed(&typ("None"), &claims(), SECRET), TokenFault::Malformed),
        (signed(&typ("HS384"), &claims(), SECRET), TokenFault::Malformed),
        (signed(&typ("RS256"), &claims(), SECRET), TokenFault::Malformed),
        (signed(&typ("EdDSA"), &claims(), SECRET), TokenFault::Signature),
        (signed(&json!({"alg": "HS256", "crit": ["b64"], "b64": false}), &claims(), SECRET), TokenFault::Malformed),
        (format!("{good}{}", "a".repeat(TOKEN_BYTES)), TokenFault::TooLong),
    ] {
        assert_eq!(access.check(&token), Err(fault), "{token}");
    }
}

#[tokio::test]
async fn a_token_outside_of_its_time_or_without_an_end_lets_nobody_in() {
    let access = by_secret().await;
    let fault = |claims: &Value| access.check(&hs256(claims)).unwrap_err();
    assert_eq!(fault(&with("exp", json!(now() - 3600))), TokenFault::Ended);
    // Within the difference of clocks, which makes no token longer.
    assert_eq!(fault(&with("exp", json!(now() - 1))), TokenFault::Ended);
    assert_eq!(fault(&with("nbf", json!(now() + 3600))), TokenFault::NotYet);
    assert!(access.check(&hs256(&with("nbf", json!(now() - 1)))).is_ok());
    for exp in [Value::Null, json!("tomorrow"), json!(-1), json!([now() + 60])] {
        assert!(matches!(fault(&with("exp", exp.clone())), TokenFault::Claims(_) | TokenFault::Ended), "{exp}");
    }
    let grant = access.check(&hs256(&with("exp", json!(u64::MAX)))).unwrap();
    assert!(futures_util::FutureExt::now_or_never(grant.ended()).is_none());
}

#[tokio::test]
async fn claims_that_are_not_as_they_must_be_are_refused_by_name() {
    let access = by_secret().await;
    for (name, wrong) in [
        ("sub", json!("")),
        ("sub", json!("a.b")),
        ("sub", json!(["acme"])),
        ("sub", Value::Null),
        ("may", json!("view")),
        ("may", json!(["view", "everything"])),
        ("may", Value::Null),
        ("session", json!("a b")),
        ("session", json!(5)),
        ("avatar", json!("../x")),
        ("nbf", json!("now")),
        ("limits", json!({"sessions": 1})),
    ] {
        let fault = access.check(&hs256(&with(name, wrong.clone()))).unwrap_err();
        assert!(matches!(fault, TokenFault::Claims(_)), "{name} {wrong}: {fault}");
    }
}

#[tokio::test]
async fn a_token_is_for_the_audience_that_the_settings_name() {
    let settings = Settings { secret: Some(Key::new(SECRET)), keys: None, audience: Some("us".into()) };
    let access = Access::open(settings).await.unwrap();
    assert!(access.check(&hs256(&with("aud", json!("us")))).is_ok());
    assert!(access.check(&hs256(&with("aud", json!(["them", "us"])))).is_ok());
    assert_eq!(access.check(&hs256(&with("aud", json!("them")))), Err(TokenFault::Audience));
    assert!(matches!(access.check(&hs256(&claims())), Err(TokenFault::Claims(_))));
    assert_eq!(by_secret().await.check(&hs256(&with("aud", json!("us")))), Err(TokenFault::Audience));
}

#[tokio::test]
async fn published_keys_are_read_again_and_the_last_good_ones_kept() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let publish = |text: &str| std::fs::write(file.path(), text).unwrap();
    let settings = || Settings { keys: Some(KeySource::File(file.path().to_owned())), ..Settings::default() };
    publish("{}");
    let error = Access::open(settings()).await.err().unwrap().to_string();
    assert!(error.contains("no key set"), "{error}");
    publish(&key_set("old"));
    let access = Access::open(settings()).await.unwrap();
    assert!(access.check(&eddsa(None)).is_ok() && access.check(&eddsa(Some("old"))).is_ok());
    assert_eq!(access.check(&eddsa(Some("new"))), Err(TokenFault::Signature));
    // A public key is no secret: it must not do as one of HS256.
    for secret in [PUBLIC.to_owned(), key_set("old")] {
        let forged = signed(&json!({"alg": "HS256"}), &claims(), &secret);
        assert_eq!(access.check(&forged), Err(TokenFault::Signature));
    }
    let keys = access.keys.as_ref().unwrap();
    publish(&key_set("new"));
    keys.read_again().await.unwrap();
    assert!(access.check(&eddsa(Some("new"))).is_ok() && access.check(&eddsa(Some("old"))).is_err());
    let short = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}]}).to_string();
    let many = json!({"keys": vec![json!({}); 33]}).to_string();
    let long = format!("{}{}", key_set("new"), " ".repeat(70_000));
    for unusable in ["", "[]", "{\"keys\": 5}", "{\"keys\": []}", &short, &many, &long] {
        publish(unusable);
        assert!(keys.read_again().await.is_err(), "{}", &unusable[..unusable.len().min(80)]);
        assert!(access.check(&eddsa(Some("new"))).is_ok(), "those from before stay");
    }
    std::fs::remove_file(file.path()).unwrap();
    assert!(keys.read_again().await.is_err() && access.check(&eddsa(None)).is_ok());
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_lets_nobody_in_and_is_no_reason_not_to_start() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/keys?key=hidden", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let access = Access::open(Settings { keys: Some(KeySource::Url(url)), ..Settings::default() }).await.unwrap();
    assert_eq!(access.check(&eddsa(None)), Err(TokenFault::Signature));
    let error = access.keys.as_ref().unwrap().read_again().await.unwrap_err().to_string();
    assert!(error.contains("/keys") && !error.contains("hidden"), "{error}");
}

#[tokio::test]
async fn keys_of_an_address_are_taken_up_to_their_bound() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
    let answers = [
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", key_set("a")),
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nConnection: close\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}{}", key_set("b"), " ".repeat(200_000)),
    ];
    let issuer = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            // The last one is not read to its end.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let access = Access::open(Settings { keys: Some(KeySource::Url(url)), ..Settings::default() }).await.unwrap();
    assert!(access.check(&eddsa(Some("a"))).is_ok());
    let keys = access.keys.as_ref().unwrap();
    assert!(keys.read_again().await.unwrap_err().to_string().contains("302"));
    assert!(keys.read_again().await.unwrap_err().to_string().contains("bytes"));
    assert!(access.check(&eddsa(Some("a"))).is_ok());
    issuer.join().unwrap();
}
