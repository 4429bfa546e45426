//! What is sent out of shared buffers: it arrives, is not copied, and nothing of it is kept.

use super::tcp::pattern;
use super::*;
use basalt_env::{DmaPool, DmaRun, DmaSlice, DmaStats};
use proptest::prelude::*;

const LIMIT: Duration = Duration::from_secs(600);
/// What a card can do without: then checksums are ours, and segments are small.
const PLAIN: u64 = feature::VERSION_1 | feature::MAC;
const BIG: StackOptions =
    StackOptions { rx_buffer_len: 128 << 10, tx_buffer_len: 128 << 10, ..SMALL };

/// A pair whose server has its buffers where its card finds them.
struct Rig {
    pair: Pair,
    pool: DmaPool,
    near: SocketId,
    far: SocketId,
    before: DmaStats,
}

impl Rig {
    fn new(plan: WirePlan, seed: u64, features: u64) -> Self {
        Self::of(plan, seed, features, BIG)
    }

    fn of(plan: WirePlan, seed: u64, features: u64, options: StackOptions) -> Self {
        let machine = Machine::new();
        let pool = machine.pool(8 << 20);
        let model = VirtioNetModel::new(machine.bus(), [0x52, 0x54, 0, 0, 0, 1]);
        let model = model.with_features(features);
        let clock = || Instant::ZERO;
        let net = VirtioNet::bring_up(model.device(), &pool, &clock, CoreId::BOOT).unwrap();
        let mut pair = Pair::of(plan, seed, options, [(model, net), card(2, features)]);
        let listener = pair.server.listen(PORT).unwrap();
        let (near, far) = pair.connect(listener);
        let before = pool.stats();
        Self { pair, pool, near, far, before }
    }

    /// Bytes of a pattern, shared.
    fn share(&self, len: usize, seed: u8) -> DmaSlice {
        let mut buf = self.pool.alloc(len).unwrap();
        buf.as_mut_slice().copy_from_slice(&pattern(len, seed));
        self.pool.share(buf).unwrap()
    }

    /// Sends all of it from the server, and lets go of it as soon as it is handed over; gives what
    /// has arrived then.
    fn send_all(&mut self, mut runs: Vec<Sent>) -> Vec<u8> {
        let whole: usize = runs.iter().map(|run| run.run(0).len()).sum();
        let (mut got, mut skip) = (vec![], 0);
        runs.reverse();
        let (near, far) = (self.near, self.far);
        self.pair.until(LIMIT, |pair| {
            while let Some(run) = runs.last() {
                let rest = run.run(skip);
                let sent = pair.server.send_vectored(far, &[rest]).unwrap();
                skip += sent;
                if sent < rest.len() {
                    break;
                }
                skip = 0;
                runs.pop();
            }
            got.extend(read(&mut pair.client, near).unwrap());
            got.len() >= whole
        });
        got
    }

    /// Waits until the server has no buffer any more but those it began with.
    fn until_all_is_back(&mut self) {
        let (pool, before) = (self.pool.clone(), self.before);
        self.pair.until(LIMIT, |_| pool.stats() == before);
    }
}

/// What a test sends.
enum Sent {
    Lent(Vec<u8>),
    Shared(DmaSlice),
}

impl Sent {
    fn run(&self, skip: usize) -> DmaRun<'_> {
        match self {
            Self::Lent(bytes) => DmaRun::Lent(&bytes[skip..]),
            Self::Shared(slice) => DmaRun::Shared(slice, skip),
        }
    }
}

fn bytes_of(runs: &[Sent]) -> Vec<u8> {
    runs.iter().flat_map(|run| run.run(0).as_slice().to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn copied_and_shared_bytes_survive_any_wire_though_their_owner_is_gone(
        seed: u64,
        lens in prop::collection::vec((any::<bool>(), 1usize..9000), 1..40),
        lost in 0u32..50,
        doubled in 0u32..30,
        overtaken in 0u32..100,
        features in prop::sample::select(vec![PLAIN, PLAIN | feature::CSUM, feature::ALL]),
        small: bool,
    ) {
        let plan = WirePlan { lost, doubled, overtaken, damaged: 0 };
        let options = if small { SMALL } else { BIG };
        let mut rig = Rig::of(plan, seed, features, options);
        let runs: Vec<Sent> = lens.iter().zip(0u8..).map(|(&(shared, len), mark)| {
            if shared { Sent::Shared(rig.share(len, mark)) } else { Sent::Lent(pattern(len, mark)) }
        }).collect();
        let expected = bytes_of(&runs);
        prop_assert!(rig.send_all(runs) == expected, "other bytes arrive");
        rig.until_all_is_back();
        prop_assert_eq!(rig.pair.server.held(rig.far), 0);
    }
}

#[test]
fn a_card_that_completes_checksums_reads_what_is_shared_where_it_lies() {
    for features in [PLAIN, PLAIN | feature::CSUM, feature::ALL] {
        let mut rig = Rig::new(WirePlan::default(), 1, features);
        let mut places = vec![];
        let mut runs = vec![];
        for mark in 0..100 {
            let slice = rig.share(4096, mark);
            places.push(slice.phys().as_u64());
            runs.extend([Sent::Lent(pattern(24, mark)), Sent::Shared(slice)]);
        }
        let expected = bytes_of(&runs);
        let sources = rig.pair.models[0].take_sources();
        assert_eq!(sources, []);
        assert!(rig.send_all(runs) == expected);
        let (mut shared, mut written) = (vec![0; places.len()], 0);
        for source in rig.pair.models[0].take_sources() {
            let at = source.address.as_u64();
            match places.iter().position(|start| (*start..*start + 4096).contains(&at)) {
                Some(place) => shared[place] += source.len,
                None => written += source.len,
            }
        }
        let frames = rig.pair.server.port().stats().tx_frames as usize;
        // Where the processor goes through all of it for the checksum, it copies it meanwhile.
        let copied = if features == PLAIN { 4096 } else { 0 };
        assert!(shared.iter().all(|read| *read == 4096 - copied), "{shared:?}");
        let most = frames * 80 + 100 * (24 + copied);
        assert!(written <= most, "{written} bytes of {frames} frames");
        assert_eq!(rig.pair.models[0].refused(), 0);
        rig.until_all_is_back();
    }
}

#[test]
fn however_small_the_pieces_they_arrive_and_are_bounded() {
    for features in [PLAIN, feature::ALL] {
        let mut rig = Rig::new(WirePlan { lost: 10, ..WirePlan::default() }, 4, features);
        let whole = rig.share(8192, 5);
        let small = |at: usize| Sent::Shared(whole.part(at * 13 % 8000, 1 + at % 97));
        let runs: Vec<Sent> = (0..2000).map(small).collect();
        let expected = bytes_of(&runs);
        assert!(rig.send_all(runs) == expected);
        assert_eq!(rig.pair.models[0].refused(), 0);
        drop(whole);
        rig.until_all_is_back();
    }
}

#[test]
fn a_peer_that_reads_nothing_keeps_no_more_than_fits_the_queue() {
    let mut rig = Rig::new(WirePlan::default(), 1, feature::ALL);
    let large = rig.share(1 << 20, 1);
    let mut sent = 0;
    for _ in 0..2000 {
        let far = rig.far;
        sent += rig.pair.server.send_vectored(far, &[DmaRun::Shared(&large, sent)]).unwrap();
        rig.pair.step();
    }
    assert!(sent <= 256 << 10, "{sent} bytes without a reader");
    assert_eq!(rig.pair.server.held(rig.far), 1 << 20, "of one buffer, once");
    drop(large);
    let one = rig.share(512, 1);
    assert_eq!(rig.pair.server.send_vectored(rig.far, &[DmaRun::Shared(&one, 0)]), Ok(0));
    let near = rig.near;
    rig.pair.until(LIMIT, |pair| {
        sent -= read(&mut pair.client, near).unwrap().len();
        sent == 0
    });
    drop(one);
    rig.until_all_is_back();
}

/// Fills the queue of a connection whose peer takes nothing.
fn stuck(seed: u64) -> Rig {
    let mut rig = Rig::new(WirePlan::default(), seed, feature::ALL);
    for mark in 0..80 {
        let slice = rig.share(4096, mark);
        let _ = rig.pair.server.send_vectored(rig.far, &[DmaRun::Shared(&slice, 0)]).unwrap();
        rig.pair.step();
    }
    assert!(rig.pair.server.held(rig.far) >= 100 << 10);
    assert!(rig.pool.stats().bytes_free < rig.before.bytes_free - (100 << 10));
    rig
}

#[test]
fn however_a_connection_ends_its_buffers_come_back() {
    let mut aborted = stuck(1);
    aborted.pair.server.abort(aborted.far);
    aborted.pair.run(TICK * 4);
    assert_eq!(aborted.pool.stats(), aborted.before, "at once");

    let mut reset = stuck(2);
    reset.pair.client.abort(reset.near);
    reset.until_all_is_back();

    // The peer takes nothing more; what is left goes from memory of the stack's own.
    let mut closed = stuck(3);
    closed.pair.server.close(closed.far);
    closed.pair.run(TICK * 4);
    assert_eq!(closed.pool.stats(), closed.before, "at once");
    let (near, mut got) = (closed.near, 0);
    closed.pair.until(LIMIT, |pair| match read(&mut pair.client, near) {
        Ok(bytes) => {
            let right = (got..).map(|at| pattern(4096, (at / 4096) as u8)[at % 4096]);
            assert!(bytes.iter().copied().eq(right.take(bytes.len())));
            got += bytes.len();
            false
        }
        Err(error) => error == SocketError::Closed,
    });
    assert!(got >= 200 << 10, "{got}");

    // Nobody is there any more.
    let mut silent = stuck(4);
    let before = silent.before;
    let (pool, end) = (silent.pool.clone(), silent.pair.now + LIMIT);
    while pool.stats() != before {
        assert!(silent.pair.now < end);
        silent.pair.now = silent.pair.now + Duration::from_millis(5);
        let _ = silent.pair.server.poll(silent.pair.now);
        while silent.pair.models[0].take_sent().is_some() {}
    }
    assert_eq!(silent.pair.server.send(silent.far, b"more"), Err(SocketError::Reset));

    let mut dropped = stuck(5);
    drop(dropped.pair);
    assert_eq!(dropped.pool.stats().bytes_free, dropped.pool.stats().bytes_total);
    dropped.before = dropped.pool.stats();
}

#[test]
fn a_card_that_answers_nothing_keeps_what_it_was_given_and_no_more_is_sent() {
    let mut rig = Rig::new(WirePlan::default(), 1, feature::ALL);
    rig.pair.models[0].set_wants_notice(basalt_models::virtio_net::NoticeWish::Silent);
    for mark in 0..80 {
        let slice = rig.share(1500, mark);
        let _ = rig.pair.server.send_vectored(rig.far, &[DmaRun::Shared(&slice, 0)]).unwrap();
        rig.pair.now = rig.pair.now + TICK;
        let _ = rig.pair.server.poll(rig.pair.now);
    }
    rig.pair.server.abort(rig.far);
    let _ = rig.pair.server.poll(rig.pair.now);
    assert!(rig.pool.stats().bytes_free < rig.before.bytes_free, "the card may still read it");
    rig.until_all_is_back();
}
