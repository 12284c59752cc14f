//! STUN and TURN servers, asked once: how they see this machine, and whether they would relay.
//!
//! In here: requests and answers (RFC 8489, 8656) over UDP and TCP, each in bounded time. Not in here: what it means.

use std::net::SocketAddr;
use std::time::Duration;

use md5::{Digest, Md5};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::media::stun::{self, Message, Writer};

/// For a name, for a connection, for an answer over TCP.
const PATIENCE: Duration = Duration::from_secs(2);
/// Over UDP a request is sent again after such a time.
const AGAIN: Duration = Duration::from_millis(500);
const TRIES: usize = 4;
/// Longest answer.
const ANSWER: usize = 2048;
/// UDP, as IP numbers it: what is relayed.
const RELAYED: [u8; 4] = [17, 0, 0, 0];

/// Why a server is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    #[error("its name is not known: {0}")]
    Name(String),
    #[error("cannot be reached: {0}")]
    Unreached(#[from] std::io::Error),
    #[error("does not answer")]
    Silent,
    #[error("answers something else than STUN and TURN do")]
    Odd,
    #[error("refuses these credentials (error {0})")]
    Refused(u16),
    #[error("relays nothing (error {0})")]
    Failed(u16),
    /// Its port takes connections.
    #[error("its TLS is not tried")]
    TlsNotTried,
}

/// The address and port that a packet of this socket has for a STUN server, `host:port`.
pub async fn seen_as(socket: UdpSocket, server: &str) -> Result<SocketAddr, TurnError> {
    let mut server = Server::Udp { socket, at: resolve(server, true).await? };
    let answer = server.ask(Writer::new(stun::BINDING, rand::random()).bytes()).await?;
    let message =
        Message::parse(&answer).filter(|message| message.kind == stun::BINDING_SUCCESS).ok_or(TurnError::Odd)?;
    message.address(stun::XOR_MAPPED_ADDRESS).ok_or(TurnError::Odd)
}

/// A TURN server by its URL.
pub struct Turn {
    server: Server,
}

impl Turn {
    /// Has it relay for a moment; the address that it relays at.
    pub async fn try_out(url: &str, user: &str, password: &str) -> Result<SocketAddr, TurnError> {
        let (scheme, place) = url.split_once(':').ok_or(TurnError::Odd)?;
        let (place, query) = place.split_once('?').unwrap_or((place, ""));
        let has_port = place.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && !port.ends_with(']'));
        let port = if scheme == "turns" { 5349 } else { 3478 };
        let place = if has_port { place.to_owned() } else { format!("{place}:{port}") };
        let by_tcp = scheme == "turns" || query == "transport=tcp";
        let at = resolve(&place, false).await?;
        let server = if by_tcp {
            Server::Tcp(timeout(PATIENCE, TcpStream::connect(at)).await.map_err(|_| TurnError::Silent)??)
        } else {
            let any = if at.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
            Server::Udp { socket: UdpSocket::bind(any).await?, at }
        };
        if scheme == "turns" {
            return Err(TurnError::TlsNotTried);
        }
        Self { server }.relay(user, password).await
    }

    async fn relay(mut self, user: &str, password: &str) -> Result<SocketAddr, TurnError> {
        // Without credentials first: the refusal has what they are made for.
        let plain = Writer::new(stun::ALLOCATE, rand::random()).attribute(stun::REQUESTED_TRANSPORT, &RELAYED);
        let answer = self.server.ask(plain.bytes()).await?;
        let refusal = Message::parse(&answer).filter(|message| message.kind == stun::ALLOCATE_ERROR);
        let refusal = refusal.ok_or(TurnError::Odd)?;
        let given = refusal.attribute(stun::REALM).zip(refusal.attribute(stun::NONCE));
        let (realm, nonce) = given.ok_or(TurnError::Failed(refusal.error_code().unwrap_or(0)))?;
        let key = Md5::digest([user.as_bytes(), b":", realm, b":", password.as_bytes()].concat());
        let signed = |request: Writer| {
            let request = request.attribute(stun::USERNAME, user.as_bytes());
            request.attribute(stun::REALM, realm).attribute(stun::NONCE, nonce).signed(&key).bytes()
        };
        let request = Writer::new(stun::ALLOCATE, rand::random()).attribute(stun::REQUESTED_TRANSPORT, &RELAYED);
        let answer = self.server.ask(signed(request)).await?;
        let message = Message::parse(&answer).ok_or(TurnError::Odd)?;
        match (message.kind, message.error_code()) {
            (stun::ALLOCATE_SUCCESS, _) => {
                let relayed = message.address(stun::XOR_RELAYED_ADDRESS).ok_or(TurnError::Odd);
                let end = Writer::new(stun::REFRESH, rand::random()).attribute(stun::LIFETIME, &[0; 4]);
                // It would end by itself too.
                let _ = self.server.ask(signed(end)).await;
                relayed
            }
            (stun::ALLOCATE_ERROR, Some(code @ (401 | 403 | 438 | 441))) => Err(TurnError::Refused(code)),
            (stun::ALLOCATE_ERROR, Some(code)) => Err(TurnError::Failed(code)),
            _ => Err(TurnError::Odd),
        }
    }
}

enum Server {
    Udp { socket: UdpSocket, at: SocketAddr },
    Tcp(TcpStream),
}

impl Server {
    /// Its answer to a request.
    async fn ask(&mut self, request: Vec<u8>) -> Result<Vec<u8>, TurnError> {
        let transaction = request.get(8..20).unwrap_or_default().to_vec();
        match self {
            Self::Udp { socket, at } => {
                for _ in 0..TRIES {
                    socket.send_to(&request, *at).await?;
                    if let Ok(answer) = timeout(AGAIN, answer_to(&transaction, socket, *at)).await {
                        return Ok(answer?);
                    }
                }
                Err(TurnError::Silent)
            }
            Self::Tcp(stream) => {
                let exchange = async {
                    stream.write_all(&request).await?;
                    let mut answer = vec![0; 20];
                    stream.read_exact(&mut answer).await?;
                    let length = answer
                        .get(2..4)
                        .map_or(0, |two| two.iter().fold(0, |all, byte| all * 256 + usize::from(*byte)));
                    answer.resize(20 + length.min(ANSWER), 0);
                    stream.read_exact(answer.get_mut(20..).unwrap_or_default()).await?;
                    Ok::<_, std::io::Error>(answer)
                };
                Ok(timeout(PATIENCE, exchange).await.map_err(|_| TurnError::Silent)??)
            }
        }
    }
}

/// Whatever else comes meanwhile is passed over.
async fn answer_to(transaction: &[u8], socket: &UdpSocket, at: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; ANSWER];
    loop {
        let (length, from) = socket.recv_from(&mut bytes).await?;
        let received = bytes.get(..length).unwrap_or_default();
        if from == at && Message::parse(received).is_some_and(|message| message.transaction() == transaction) {
            return Ok(received.to_vec());
        }
    }
}

/// The first address of a name, of IPv4 alone where a socket has that.
async fn resolve(place: &str, only_v4: bool) -> Result<SocketAddr, TurnError> {
    let found = timeout(PATIENCE, tokio::net::lookup_host(place)).await;
    let found = found.map_err(|_| TurnError::Name("nobody answers in time".to_owned()))?;
    let mut found = found.map_err(|error| TurnError::Name(error.to_string()))?;
    found.find(|at| !only_v4 || at.is_ipv4()).ok_or_else(|| TurnError::Name("it has no address".to_owned()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What a TURN server with the user `u`, whose password is `p`, answers.
    fn answer(request: &[u8], from: SocketAddr) -> Vec<u8> {
        let request = Message::parse(request).unwrap();
        let transaction = request.transaction().try_into().unwrap();
        let SocketAddr::V4(from) = from else { panic!("the test asks over IPv4") };
        let address = |port: u16, address: [u8; 4]| {
            let cookie = 0x2112_A442u32.to_be_bytes();
            let masked: Vec<u8> = address.iter().zip(cookie).map(|(byte, mask)| byte ^ mask).collect();
            [&[0, 1][..], &(port ^ 0x2112).to_be_bytes(), &masked].concat()
        };
        if request.kind == stun::BINDING {
            let seen = address(from.port(), from.ip().octets());
            return Writer::new(stun::BINDING_SUCCESS, transaction).attribute(stun::XOR_MAPPED_ADDRESS, &seen).bytes();
        }
        if request.kind == stun::ALLOCATE && request.is_signed_by(&Md5::digest("u:realm:p")) {
            assert_eq!(request.attribute(stun::NONCE), Some(&b"nonce"[..]));
            let relayed = address(5000, [203, 0, 113, 9]);
            return Writer::new(stun::ALLOCATE_SUCCESS, transaction)
                .attribute(stun::XOR_RELAYED_ADDRESS, &relayed)
                .bytes();
        }
        Writer::new(request.kind | 0x0110, transaction)
            .attribute(stun::ERROR_CODE, &[0, 0, 4, 1])
            .attribute(stun::REALM, b"realm")
            .attribute(stun::NONCE, b"nonce")
            .bytes()
    }

    async fn by_udp() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut bytes = [0; ANSWER];
            while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
                // Something else first, which is passed over.
                socket.send_to(b"hello", from).await.unwrap();
                socket.send_to(&answer(&bytes[..length], from), from).await.unwrap();
            }
        });
        at
    }

    async fn by_tcp() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, from)) = listener.accept().await {
                let mut bytes = [0; ANSWER];
                while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                    stream.write_all(&answer(&bytes[..length], from)).await.unwrap();
                }
            }
        });
        at
    }

    #[tokio::test]
    async fn a_stun_server_says_how_a_socket_is_seen() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let own = socket.local_addr().unwrap();
        assert_eq!(seen_as(socket, &by_udp().await.to_string()).await.unwrap(), own);
    }

    #[tokio::test]
    async fn a_turn_server_relays_for_those_who_have_its_password_over_udp_and_tcp() {
        for url in [format!("turn:{}", by_udp().await), format!("turn:{}?transport=tcp", by_tcp().await)] {
            assert_eq!(Turn::try_out(&url, "u", "p").await.unwrap(), "203.0.113.9:5000".parse().unwrap());
            let refused = Turn::try_out(&url, "u", "wrong").await;
            assert!(matches!(refused, Err(TurnError::Refused(401))), "{refused:?}");
        }
        let tls = Turn::try_out(&format!("turns:{}", by_tcp().await), "u", "p").await;
        assert!(matches!(tls, Err(TurnError::TlsNotTried)), "{tls:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_not_there_is_told_in_bounded_time() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let url = format!("turn:{}", silent.local_addr().unwrap());
        assert!(matches!(Turn::try_out(&url, "u", "p").await, Err(TurnError::Silent)));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let unreached = Turn::try_out(&format!("turn:{closed}?transport=tcp"), "u", "p").await;
        assert!(matches!(unreached, Err(TurnError::Unreached(_) | TurnError::Silent)), "{unreached:?}");
    }
}
