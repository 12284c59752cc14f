//! The one port with sockets in the place of browsers and libnices.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::framing::framed;
use super::*;
use crate::media::stun::{BINDING, USERNAME, Writer};

fn check(username: &str, password: &str) -> Vec<u8> {
    Writer::new(BINDING, [3; 12]).attribute(USERNAME, username.as_bytes()).signed(password.as_bytes()).bytes()
}

/// A viewer's libnice, that is a socket that the test reads.
async fn libnice(port: &OnePort, name: &str) -> (UdpSocket, Entry) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let entry = port.enter(name.to_owned(), "password".to_owned(), socket.local_addr().unwrap()).unwrap();
    (socket, entry)
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 4096];
    let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
    bytes.truncate(length);
    (bytes, from)
}

async fn read_packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut packet = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut packet).await.unwrap();
    packet
}

#[tokio::test]
async fn two_viewers_by_one_port_get_their_own_packets_and_answer_whence_they_came() {
    let (port, tasks) = OnePort::open(0).await.unwrap();
    let at = (Ipv4Addr::LOCALHOST, port.0.port);
    for name in ["a:x", "b:y"] {
        let (inner, _entry) = libnice(&port, name).await;
        let browser = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let asked = check(name, "password");
        browser.send_to(&asked, at).await.unwrap();
        let (came, from) = receive(&inner).await;
        assert_eq!(came, asked, "bytes pass unchanged");
        inner.send_to(b"\x80 picture", from).await.unwrap();
        let (picture, from) = receive(&browser).await;
        assert_eq!((picture.as_slice(), from), (&b"\x80 picture"[..], at.into()));
        // From the second packet on the source alone says whose it is.
        browser.send_to(b"\x80 report", at).await.unwrap();
        assert_eq!(receive(&inner).await.0, b"\x80 report");
    }
    tasks.stop().await;
}

#[tokio::test]
async fn viewers_come_over_ipv6_where_the_machine_has_it() {
    let (port, tasks) = OnePort::open(0).await.unwrap();
    if let Ok(browser) = UdpSocket::bind("[::1]:0").await {
        assert!(port.has_ipv6());
        let (inner, _entry) = libnice(&port, "a:x").await;
        browser.connect(("::1", port.0.port)).await.unwrap();
        browser.send(&check("a:x", "password")).await.unwrap();
        let (_, from) = receive(&inner).await;
        inner.send_to(b"\x80 picture", from).await.unwrap();
        assert_eq!(receive(&browser).await.0, b"\x80 picture");
        let mut connection = TcpStream::connect(("::1", port.0.port)).await.unwrap();
        connection.write_all(&framed(&check("a:x", "password")).unwrap()).await.unwrap();
        let (_, from) = receive(&inner).await;
        inner.send_to(b"\x80 sound", from).await.unwrap();
        assert_eq!(read_packet(&mut connection).await, b"\x80 sound");
    } else {
        assert!(port.candidates(&["2001:db8::1".parse().unwrap()]).is_empty(), "this machine has no IPv6");
    }
    tasks.stop().await;
}

#[tokio::test]
async fn a_viewer_by_tcp_has_the_same_packets_behind_their_lengths_until_it_leaves() {
    let (port, tasks) = OnePort::open(0).await.unwrap();
    let (inner, entry) = libnice(&port, "a:x").await;
    let mut browser = TcpStream::connect((Ipv4Addr::LOCALHOST, port.0.port)).await.unwrap();
    let asked = check("a:x", "password");
    let both = [framed(&asked).unwrap(), framed(b"\x80 report").unwrap()].concat();
    for byte in both.chunks(7) {
        browser.write_all(byte).await.unwrap();
    }
    let (came, from) = receive(&inner).await;
    assert_eq!(came, asked);
    assert_eq!(receive(&inner).await.0, b"\x80 report");
    inner.send_to(b"\x80 picture", from).await.unwrap();
    assert_eq!(read_packet(&mut browser).await, b"\x80 picture");
    drop(entry);
    assert_eq!(browser.read(&mut [0; 1]).await.unwrap(), 0, "its connection ends with it");
    tasks.stop().await;
    assert_eq!((port.0.connections.count(), port.0.demux().counts()), (0, (0, 0)));
}

#[tokio::test]
async fn connections_that_say_something_else_are_closed_and_those_that_are_nobody_s_are_few() {
    let (port, tasks) = OnePort::open(0).await.unwrap();
    let at = (Ipv4Addr::LOCALHOST, port.0.port);
    for odd in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0], &framed(b"\x80").unwrap().repeat(4)] {
        let mut stranger = TcpStream::connect(at).await.unwrap();
        stranger.write_all(odd).await.unwrap();
        let ended = stranger.read(&mut [0; 1]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{odd:?}: {ended:?}");
    }
    while port.0.connections.count() > 0 {
        tokio::task::yield_now().await;
    }
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(at).await.unwrap());
    }
    let mut ninth = TcpStream::connect(at).await.unwrap();
    let ended = ninth.read(&mut [0; 1]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert_eq!(port.0.connections.count(), 8);
    tasks.stop().await;
    assert_eq!(port.0.connections.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_silent_is_closed() {
    let (port, tasks) = OnePort::open(0).await.unwrap();
    let mut silent = TcpStream::connect((Ipv4Addr::LOCALHOST, port.0.port)).await.unwrap();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
    tasks.stop().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_protocol() {
    let (port, tasks) = OnePort::open(0).await.unwrap();
    let error = OnePort::open(port.0.port).await.unwrap_err().to_string();
    assert!(error.contains(&port.0.port.to_string()) && error.contains("UDP"), "{error}");
    tasks.stop().await;
}

#[test]
fn clients_are_told_each_address_with_the_port_udp_first() {
    let told = candidates(&["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()], 8443);
    assert_eq!(
        told,
        [
            "candidate:u0 1 UDP 2130706431 192.0.2.1 8443 typ host",
            "candidate:u1 1 UDP 2130706175 2001:db8::1 8443 typ host",
            "candidate:t0 1 TCP 1516240895 192.0.2.1 8443 typ host tcptype passive",
            "candidate:t1 1 TCP 1516240639 2001:db8::1 8443 typ host tcptype passive",
        ]
    );
}
