//! Counts the stack's instructions per exchange, at both ends: a request of 72 bytes and an answer
//! of 4 KiB in a shared buffer and its headers, so many at a time (32 unless the first argument
//! says otherwise).
//!
//! ```text
//! cargo build --release -p basalt-net --example instructions
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='*stacks_work' \
//!     target/release/examples/instructions 32 large
//! ```
//!
//! The second argument says what the cards offer: `plain`, `checksums`, or `large` for segments of
//! up to 64 KiB too, which is the default. With a third, `copied`, answers are not shared. Divide
//! the total that valgrind prints ("Collected") by the number of exchanges. The cards poll for
//! frames, and what they do is no part of the stacks.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use basalt_env::{CoreId, DmaPool, DmaRun, DmaSlice, Instant};
use basalt_hosted::Machine;
use basalt_models::virtio_net::{ModelDevice, NoticeWish, VirtioNetModel, Wire, WirePlan, feature};
use basalt_net::{Address, InterfaceConfig, IpStack, Ipv4Cidr, NetStack, SocketId, StackOptions};
use basalt_virtio_net::VirtioNet;

const EXCHANGES: usize = 20_000;
const REQUEST_LEN: usize = 72;
/// A data unit of NVMe/TCP with its header, and the response.
const HEADER_LEN: usize = 24;
const DATA_LEN: usize = 4096;
const ANSWER_LEN: usize = HEADER_LEN + DATA_LEN + 24;
static BYTES: [u8; ANSWER_LEN] = [0x5a; ANSWER_LEN];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PORT: u16 = 4420;

type Stack = IpStack<VirtioNet<ModelDevice>>;

/// One side of the connection and what it has still to send.
struct End {
    stack: Stack,
    socket: Option<SocketId>,
    /// Bytes of requests.
    owed: usize,
    /// Answers, and bytes of the first that are out.
    answers: (usize, usize),
    received: usize,
    pool: DmaPool,
}

impl End {
    /// Gives how many whole messages of `len` bytes have come.
    fn turn(&mut self, now: Instant, len: usize) -> usize {
        let _ = self.stack.poll(now);
        let Some(socket) = self.socket else { return 0 };
        while let Ok(taken @ 1..) = self.stack.recv(socket, &mut |bytes| bytes.len()) {
            self.received += taken;
        }
        let whole = self.received / len;
        self.received %= len;
        whole
    }

    fn ask(&mut self) {
        let Some(socket) = self.socket else { return };
        while self.owed > 0 {
            let len = self.owed.min(REQUEST_LEN);
            match self.stack.send(socket, &BYTES[..len]) {
                Ok(sent @ 1..) => self.owed -= sent,
                _ => break,
            }
        }
    }

    /// Sends answers whose data is `data`, or is copied without that.
    fn answer(&mut self, data: Option<&DmaSlice>) {
        let Some(socket) = self.socket else { return };
        while self.answers.0 > 0 {
            let lent = DmaRun::Lent(&BYTES[..DATA_LEN]);
            let data = data.map_or(lent, |slice| DmaRun::Shared(slice, 0));
            let parts = [DmaRun::Lent(&BYTES[..HEADER_LEN]), data, DmaRun::Lent(&BYTES[..24])];
            let mut runs = [DmaRun::Lent(&[]); 3];
            let mut skip = self.answers.1;
            for (run, part) in runs.iter_mut().zip(parts) {
                *run = behind(part, skip);
                skip = skip.saturating_sub(part.len());
            }
            match self.stack.send_vectored(socket, &runs) {
                Ok(sent @ 1..) => self.answers.1 += sent,
                _ => break,
            }
            if self.answers.1 == ANSWER_LEN {
                self.answers = (self.answers.0 - 1, 0);
            }
        }
    }

    /// Data of an answer.
    fn share(&self) -> Option<DmaSlice> {
        self.pool.share(self.pool.alloc(DATA_LEN).ok()?).ok()
    }
}

/// The bytes of a run but the first `skip`.
fn behind(run: DmaRun<'_>, skip: usize) -> DmaRun<'_> {
    match run {
        DmaRun::Lent(bytes) => DmaRun::Lent(bytes.get(skip..).unwrap_or_default()),
        DmaRun::Shared(slice, from) => DmaRun::Shared(slice, from + skip),
    }
}

#[inline(never)]
fn stacks_work(
    server: &mut End,
    client: &mut End,
    now: Instant,
    depth: &mut usize,
    data: Option<&DmaSlice>,
) -> usize {
    server.answers.0 += server.turn(now, REQUEST_LEN);
    server.answer(data);
    let _ = server.stack.poll(now);
    let answered = client.turn(now, ANSWER_LEN);
    client.owed += (answered + core::mem::take(depth)) * REQUEST_LEN;
    client.ask();
    let _ = client.stack.poll(now);
    answered
}

fn end(number: u8, address: Ipv4Addr, features: u64) -> Option<(VirtioNetModel, End)> {
    let machine = Machine::new();
    let pool = machine.pool(16 << 20);
    let mac = [0x52, 0x54, 0, 0, 0, number];
    let model = VirtioNetModel::new(machine.bus(), mac).with_features(features);
    let card = VirtioNet::bring_up(model.device(), &pool, &|| Instant::ZERO, CoreId::BOOT).ok()?;
    model.set_wants_notice(NoticeWish::Silent);
    let mut stack = IpStack::new(card, StackOptions::default(), number.into(), Instant::ZERO);
    let cidr = Ipv4Cidr::new(address, 24).ok()?;
    stack.configure(InterfaceConfig::Static(Address { cidr, gateway: None }.into()));
    Some((model, End { stack, socket: None, owed: 0, answers: (0, 0), received: 0, pool }))
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut depth = args.next().and_then(|depth| depth.parse().ok()).unwrap_or(32);
    let plain = feature::VERSION_1 | feature::MAC | feature::MRG_RXBUF;
    let features = match args.next().as_deref() {
        Some("plain") => plain,
        Some("checksums") => plain | feature::CSUM | feature::GUEST_CSUM,
        _ => feature::ALL,
    };
    let Some((server_model, mut server)) = end(1, SERVER, features) else { return };
    let Some((client_model, mut client)) = end(2, CLIENT, features) else { return };
    let data = if args.next().as_deref() == Some("copied") { None } else { server.share() };
    let Ok(listener) = server.stack.listen(PORT) else { return };
    client.socket = client.stack.connect(SocketAddrV4::new(SERVER, PORT).into()).ok();
    let mut wire = Wire::new(WirePlan::default(), 1);
    let mut now = Instant::ZERO;
    let (mut done, mut frames) = (0, 0);
    while done < EXCHANGES && now < Instant::ZERO + Duration::from_secs(3600) {
        now = now + Duration::from_micros(50);
        if server.socket.is_none() {
            let _ = (server.stack.poll(now), client.stack.poll(now));
            server.socket = server.stack.accept(listener);
        } else {
            done += stacks_work(&mut server, &mut client, now, &mut depth, data.as_ref());
        }
        frames += wire.carry(&server_model, &client_model);
    }
    let [sent, received] = [&server, &client].map(|end| end.stack.stats());
    println!("{done} exchanges, {frames} frames on the wire; {sent:?}, {received:?}");
}
