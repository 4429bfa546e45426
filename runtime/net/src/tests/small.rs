//! Small requests and what acknowledges them.

use super::*;

const REQUEST: [u8; 72] = [7; 72];

/// A connection at rest, and how many frames its client has had so far.
fn at_rest() -> (Pair, SocketId, SocketId, u64) {
    let mut pair = Pair::new(WirePlan::default(), 21);
    let listener = pair.server.listen(PORT).unwrap();
    let (near, far) = pair.connect(listener);
    pair.run(Duration::from_millis(100));
    let frames = pair.client.stats().frames_in;
    (pair, near, far, frames)
}

fn request(pair: &mut Pair, near: SocketId, far: SocketId) {
    assert_eq!(pair.client.send(near, &REQUEST), Ok(REQUEST.len()));
    let mut got = vec![];
    pair.until(Duration::from_millis(10), |pair| {
        got.extend(read(&mut pair.server, far).unwrap());
        got.len() == REQUEST.len()
    });
}

#[test]
fn a_small_request_is_acknowledged_by_its_answer() {
    let (mut pair, near, far, before) = at_rest();
    request(&mut pair, near, far);
    pair.step();
    pair.step();
    assert_eq!(pair.server.send(far, &[1; 24]), Ok(24));
    pair.until(Duration::from_millis(10), |pair| read(&mut pair.client, near).unwrap() == [1; 24]);
    pair.run(Duration::from_millis(20));
    assert_eq!(pair.client.stats().frames_in, before + 1, "nothing but the answer");
}

#[test]
fn a_small_request_without_an_answer_is_acknowledged_soon() {
    let (mut pair, near, far, before) = at_rest();
    request(&mut pair, near, far);
    pair.run(Duration::from_millis(3));
    assert_eq!(pair.client.stats().frames_in, before + 1);
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.client.stats().frames_in, before + 1, "it is not sent again");
}

#[test]
fn a_small_request_that_acknowledges_lets_the_rest_be_sent() {
    let (mut pair, near, far, _) = at_rest();
    let bytes: Vec<u8> = (0..60_000_u32).map(|n| n as u8).collect();
    let (mut sent, mut got, mut asked) = (0, vec![], 0);
    pair.until(Duration::from_millis(200), |pair| {
        sent += pair.server.send(far, &bytes[sent..]).unwrap();
        got.extend(read(&mut pair.client, near).unwrap());
        asked += pair.client.send(near, &REQUEST).unwrap();
        let _ = read(&mut pair.server, far);
        got.len() == bytes.len()
    });
    assert!(asked > 0 && got == bytes);
}
