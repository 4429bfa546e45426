//! What a controller sends on a queue of the initiator that has commands under way.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use basalt_env::{DmaBuf, Instant};
use basalt_models::pipes::{Pipe, TestStack};
use basalt_net::SocketId;
use basalt_nvme_spec::{Command, Completion, Status};
use basalt_nvmf::pdu::wire::flags;
use basalt_nvmf::pdu::{DIGEST_LEN, Digests};
use basalt_nvmf_host::{Answer, Data, Ended, HostQueue, Load, QueueOptions};
use basalt_reactor::sync::oneshot;
use basalt_reactor::{Options, mesh};

use crate::input::Input;
use crate::machine;
use crate::nvmf::controller::{c2h_data, c2h_term_req, ic_resp, last_data, r2t, response};
use crate::seed::Seed;

const SOCKET: SocketId = SocketId { slot: 0, generation: 0 };
const IC_REQ_LEN: usize = 128;
const SQE_LEN: usize = 64;
/// What is in buffers that nothing was received in.
const UNTOUCHED: u8 = 0xee;
/// Bytes that the commands read or write.
const READS: [usize; 3] = [512, 4096, 16384];
const WRITES: [usize; 2] = [2048, 24576];
/// Data that a capsule may carry: that of the first write.
const IN_CAPSULE: u32 = 4096;

/// A queue, the connection below it, and those who wait for its commands.
struct World {
    stack: TestStack,
    queue: HostQueue,
    waiting: Vec<oneshot::Receiver<Answer>>,
    ended: usize,
}

impl World {
    fn new(wanted: Digests) -> Self {
        let options = QueueOptions {
            digests: wanted,
            commands: 8,
            transfer_max: 1 << 16,
            in_capsule: IN_CAPSULE,
        };
        let core = mesh(1, Options::default()).remove(0).build();
        let queue = HostQueue::new(SOCKET, options, &core.local()).unwrap();
        let mut stack = TestStack::new();
        stack.pipes.push(Pipe::default());
        Self { stack, queue, waiting: Vec::new(), ended: 0 }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.stack.pipes[0].to_target.extend(bytes);
    }

    /// Receives, and sends if `sends`. Whether the connection can still be used.
    fn turn(&mut self, sends: Sends) -> bool {
        let Self { stack, queue, ended, .. } = self;
        let mut done = |end: Ended| {
            *ended += 1;
            finish(end);
        };
        let received = queue.receive(stack, &mut done);
        let sent = match sends {
            Sends::All => queue.flush(stack, &mut done),
            Sends::Nothing => received,
        };
        received.is_ok() && sent.is_ok()
    }

    fn submit(&mut self, command: Command, data: Data, buffer: Option<DmaBuf>) {
        let (answer, answered) = oneshot::channel();
        let taken = self.queue.submit(command, data, Load::Call(answer, buffer), Instant::ZERO);
        assert!(taken.is_ok(), "there is room");
        self.waiting.push(answered);
    }

    fn submit_all(&mut self) {
        for len in READS {
            let data = Data::In { skip: 0, len: len as u32 };
            self.submit(Command::read(1, 0, 1), data, Some(buffer(len)));
        }
        for len in WRITES {
            let data = Data::Out { skip: 0, len: len as u32 };
            self.submit(Command::write(1, 0, 1), data, Some(buffer(len)));
        }
        self.submit(Command::flush(1), Data::None, None);
    }

    /// The identifiers of the commands that were sent, in order of their submission.
    fn cids(&self, digests: Digests) -> Vec<u16> {
        let bytes: Vec<u8> = self.stack.pipes[0].to_host.iter().copied().collect();
        let (mut cids, mut at) = (Vec::new(), IC_REQ_LEN);
        while at + 8 + SQE_LEN <= bytes.len() {
            cids.push(u16::from_le_bytes([bytes[at + 10], bytes[at + 11]]));
            let plen =
                u32::from_le_bytes([bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]]);
            assert!(plen as usize >= 8 + SQE_LEN + if digests.header { DIGEST_LEN } else { 0 });
            at += plen as usize;
        }
        cids
    }
}

/// Whether a turn sends what there is to send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sends {
    All,
    Nothing,
}

fn buffer(len: usize) -> DmaBuf {
    let mut buffer = machine::pool().alloc(len).unwrap();
    buffer.as_mut_slice().fill(UNTOUCHED);
    buffer
}

/// Checks how a command has ended, and hands the answer to who waits for it.
fn finish(ended: Ended) {
    let Ended { load, completion, received, expected } = ended;
    assert!(received <= expected, "{received} bytes of {expected}");
    let Load::Call(answer, data) = load else { panic!("there are no Ios") };
    if let Some(buffer) = data.as_ref().filter(|_| expected > 0) {
        let rest = &buffer.as_slice()[received as usize..];
        assert!(rest.iter().all(|byte| *byte == UNTOUCHED), "bytes that nobody counts");
    }
    answer.send(Answer { completion, data });
}

/// Byte 0: digests asked for (bits 1:0), whether the stream begins with the first PDU (2), whether
/// the queue sends nothing more (3). Byte 1: how much comes at once. Then the stream.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mode, chunk) = (input.byte(), usize::from(input.byte()) * 16 + 1);
    let digests = Digests { header: mode & 1 != 0, data: mode & 2 != 0 };
    let sends = if mode & 8 != 0 { Sends::Nothing } else { Sends::All };
    let mut world = World::new(digests);
    if mode & 4 == 0 {
        world.hear(&ic_resp(digests, 0));
        assert!(world.turn(Sends::All));
    }
    world.submit_all();
    let is_up = world.turn(Sends::All);
    assert!(is_up, "nothing has come that could be wrong");
    world.submit(Command::flush(1), Data::None, None);
    let mut is_up = true;
    for piece in input.rest().chunks(chunk) {
        if is_up {
            world.hear(piece);
            is_up = world.turn(sends);
        }
    }
    check_end(world, sends);
}

/// Every command has been answered once, or is given back when the connection ends.
fn check_end(mut world: World, sends: Sends) {
    let all = world.waiting.len();
    assert_eq!(world.queue.outstanding() + world.ended, all);
    let mut lost = 0;
    world.queue.end(&mut world.stack, &mut |load| {
        lost += 1;
        drop(load);
    });
    assert_eq!(lost + world.ended, all);
    let mut context = Context::from_waker(Waker::noop());
    let answers = world.waiting.drain(..).map(|answer| {
        let Poll::Ready(answer) = pin!(answer).poll(&mut context) else { panic!("it is lost") };
        answer.is_ok()
    });
    let answers: Vec<bool> = answers.collect();
    assert_eq!(answers.iter().filter(|is_there| **is_there).count(), world.ended);
    // The last command was never sent: nobody can have answered it.
    assert!(sends == Sends::All || !answers[all - 1]);
}

/// Whole conversations.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for mode in [0_u8, 1, 2, 3, 8 | 3] {
        let digests = Digests { header: mode & 1 != 0, data: mode & 2 != 0 };
        let mut world = World::new(digests);
        world.hear(&ic_resp(digests, 0));
        world.turn(Sends::All);
        world.submit_all();
        world.turn(Sends::All);
        let cids = world.cids(digests);
        let good = |cid: u16| response(digests, &Completion::new(cid, Status::SUCCESS));
        let [short, middle, long, carried, asked, flush] = cids[..] else {
            panic!("{} commands were sent", cids.len())
        };
        let seed = Seed::starting(&[mode, 255])
            .part(&last_data(digests, short, &[1; 512]))
            .part(&good(short))
            .part(&c2h_data(digests, middle, 0, 0, &[2; 2048]))
            .part(&c2h_data(digests, middle, 2048, flags::LAST | flags::SUCCESS, &[3; 2048]))
            .part(&c2h_data(digests, long, 0, flags::LAST | flags::SUCCESS, &[4; 16384]))
            .part(&good(carried))
            .part(&r2t(digests, asked, 0, 20000))
            .part(&r2t(digests, asked, 20000, 4576))
            .part(&good(asked))
            .part(&response(digests, &Completion::new(flush, Status::INTERNAL_ERROR)));
        seeds.push(seed);
        let early = Seed::starting(&[mode | 4, 8]).part(&ic_resp(digests, 31)).part(&good(flush));
        seeds.push(early.part(&c2h_term_req(3)));
        world.queue.end(&mut world.stack, &mut drop);
    }
    seeds
}
