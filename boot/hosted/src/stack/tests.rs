use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use super::*;

/// A stack and a port it listens on.
fn listening() -> (HostStack, ListenerId, u16) {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let readiness = Rc::new(Readiness::new().unwrap());
    let mut stack = HostStack::new(Network::new(Ipv4Addr::LOCALHOST), readiness);
    let listener = stack.listen(port).unwrap();
    (stack, listener, port)
}

/// Polls until `step` gives something; the host needs a moment for everything.
fn until<T>(stack: &mut HostStack, mut step: impl FnMut(&mut HostStack) -> Option<T>) -> T {
    for round in 0..20_000_u64 {
        let _ = stack.poll(Instant::from_ns(round * 1_000_000));
        let _ = stack.flush();
        if let Some(value) = step(stack) {
            return value;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    panic!("nothing happened");
}

fn connected() -> (HostStack, SocketId, TcpStream) {
    let (mut stack, listener, port) = listening();
    let peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let socket = until(&mut stack, |stack| stack.accept(listener));
    (stack, socket, peer)
}

/// Receives `len` bytes, at most `at_once` of them each time.
fn receive(stack: &mut HostStack, socket: SocketId, len: usize, at_once: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    until(stack, |stack| {
        let taken = stack.recv(socket, &mut |part| {
            let count = part.len().min(at_once);
            bytes.extend_from_slice(&part[..count]);
            count
        });
        assert!(taken.unwrap() <= at_once);
        (bytes.len() >= len).then_some(())
    });
    bytes
}

#[test]
fn bytes_come_in_order_however_few_are_taken_at_once() {
    let (mut stack, socket, mut peer) = connected();
    let sent: Vec<u8> = (0..400_000_u32).map(|at| (at * 7 / 3) as u8).collect();
    let writer = std::thread::spawn({
        let sent = sent.clone();
        move || peer.write_all(&sent).map(|()| peer)
    });
    assert_eq!(receive(&mut stack, socket, 1000, 1), sent[..1000]);
    let rest = receive(&mut stack, socket, sent.len() - 1000, 70_000);
    assert!(rest == sent[1000..]);
    drop(writer.join().unwrap().unwrap());
    let ended = until(&mut stack, |stack| stack.recv(socket, &mut |_| 0).err());
    assert_eq!(ended, SocketError::Closed);
}

#[test]
fn short_and_long_pieces_are_sent_in_order_to_a_peer_that_reads_slowly() {
    let (mut stack, socket, mut peer) = connected();
    let wanted: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 5) as u8).collect();
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; 3_000_000];
        for chunk in bytes.chunks_mut(50_000) {
            std::thread::sleep(Duration::from_millis(1));
            peer.read_exact(chunk).unwrap();
        }
        bytes
    });
    let mut at = 0;
    until(&mut stack, |stack| {
        for len in [1, 100, 20_000, 3, 9000, 200_000] {
            let end = wanted.len().min(at + len);
            at += stack.send(socket, &wanted[at..end]).unwrap();
        }
        (at == wanted.len()).then_some(())
    });
    let left = until(&mut stack, |stack| Some(stack.unsent.len()));
    assert!(left <= 1);
    while !reader.is_finished() {
        until(&mut stack, |_| Some(()));
    }
    assert!(reader.join().unwrap() == wanted);
}

#[test]
fn a_peer_that_is_slow_to_read_gets_the_last_bytes_before_a_close() {
    let (mut stack, socket, mut peer) = connected();
    // What the peer has sent is left unread, which must not make the end a reset.
    peer.write_all(&[7; 5000]).unwrap();
    assert_eq!(stack.send(socket, &[1; 4000]), Ok(4000));
    stack.close(socket);
    assert_eq!(stack.send(socket, &[2; 10]), Err(SocketError::Reset), "it is stale now");
    until(&mut stack, |stack| (stack.unsent.is_empty()).then_some(()));
    let mut bytes = Vec::new();
    let mut rounds = 0;
    peer.set_nonblocking(true).unwrap();
    while rounds < 100_000 {
        until(&mut stack, |_| Some(()));
        match peer.read_to_end(&mut bytes) {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        rounds += 1;
    }
    assert_eq!(bytes, [1; 4000]);
    drop(peer);
    until(&mut stack, |stack| (stack.table.len() == 0).then_some(()));
}

#[test]
fn a_close_does_not_wait_for_ever() {
    let (mut stack, socket, _peer) = connected();
    stack.close(socket);
    let _ = stack.poll(Instant::from_ns(1));
    assert_eq!(stack.table.len(), 1);
    let _ = stack.poll(stack.now + CLOSE_TIME_MAX);
    assert_eq!(stack.table.len(), 0);
}

#[test]
fn an_abort_is_a_reset() {
    let (mut stack, socket, mut peer) = connected();
    stack.abort(socket);
    assert_eq!(stack.table.len(), 0);
    let error = peer.read(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(stack.recv(socket, &mut |_| 0), Err(SocketError::Reset));
}

#[test]
fn a_reset_by_the_peer_is_noticed() {
    let (mut stack, socket, peer) = connected();
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    let ended = until(&mut stack, |stack| stack.recv(socket, &mut |_| 0).err());
    assert_eq!(ended, SocketError::Reset);
    assert_eq!(stack.send(socket, &[0; 10]), Err(SocketError::Reset));
}

#[test]
fn cores_share_a_port_and_strangers_do_not() {
    let (mut one, _, port) = listening();
    let readiness = Rc::new(Readiness::new().unwrap());
    let mut two = HostStack::new(one.network.clone(), readiness);
    assert_eq!(one.listen(port), Err(ListenError::InUse), "twice on one core");
    let listener = two.listen(port).unwrap();
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err());
    let stranger = Network::new(Ipv4Addr::LOCALHOST);
    assert!(matches!(stranger.listen(port), Err(ListenError::InUse)));
    two.unlisten(listener);
    two.listen(port).unwrap();
}

#[test]
fn slots_are_used_again_and_stale_identifiers_find_nothing() {
    let (mut stack, listener, port) = listening();
    let mut stale = Vec::new();
    for _ in 0..50 {
        let peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let socket = until(&mut stack, |stack| stack.accept(listener));
        assert!(stale.iter().all(|old| stack.peer(*old).is_none()));
        assert_eq!(stack.peer(socket), peer.local_addr().ok());
        assert_eq!(stack.local(socket).map(|end| end.port()), Some(port));
        stack.abort(socket);
        stale.push(socket);
    }
    assert!(stale.iter().all(|socket| socket.slot == 0));
}

#[test]
fn a_connection_that_is_asked_for_carries_bytes_once_the_peer_has_answered() {
    let (mut stack, ..) = listening();
    let peer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let socket = stack.connect(peer.local_addr().unwrap()).unwrap();
    let mut sent = 0;
    until(&mut stack, |stack| {
        sent += stack.send(socket, &b"hello"[sent..]).unwrap();
        (sent == 5).then_some(())
    });
    let (mut far, _) = peer.accept().unwrap();
    let _ = stack.flush();
    let mut bytes = [0; 5];
    far.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    until(&mut stack, |_| Some(()));
    far.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    far.write_all(b"world").unwrap();
    assert_eq!(receive(&mut stack, socket, 5, 5), b"world");
    assert_eq!(stack.peer(socket), peer.local_addr().ok());
}

#[test]
fn a_connection_that_is_refused_is_a_reset() {
    let (mut stack, ..) = listening();
    let peer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = peer.local_addr().unwrap();
    drop(peer);
    let socket = stack.connect(address).unwrap();
    let ended = until(&mut stack, |stack| stack.recv(socket, &mut |_| 0).err());
    assert_eq!(ended, SocketError::Reset);
    assert_eq!(stack.send(socket, b"hello"), Err(SocketError::Reset));
}
