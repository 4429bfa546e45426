//! TCP connections without a network, for what stands on a [`NetStack`].

use std::collections::VecDeque;

use basalt_env::{DmaRun, Instant, Work};
use basalt_net::{
    ConnectError, Endpoint, IpAddress, ListenError, ListenerId, NetStack, SocketError, SocketId,
};

/// A TCP connection without a network: two queues of bytes.
#[derive(Default)]
pub struct Pipe {
    /// Bytes that the target has not received.
    pub to_target: VecDeque<u8>,
    /// Bytes that the host has not.
    pub to_host: VecDeque<u8>,
    /// The target's port.
    pub port: u16,
    /// Whether the host has closed its end.
    pub host_closed: bool,
    /// Whether the target has closed its own.
    pub target_closed: bool,
    /// Whether it has cut the connection, or the host has.
    pub target_reset: bool,
    /// Bytes to the host that fit this connection, if that is another number than for the others.
    pub window: Option<usize>,
    /// Where the host is, and where it thinks that we are, if those are others than for the rest.
    pub ends: Option<[IpAddress; 2]>,
    accepted: bool,
}

impl Pipe {
    /// What the target has sent and nobody has taken.
    pub fn said(&self) -> Vec<u8> {
        self.to_host.iter().copied().collect()
    }
}

/// A core's stack, driven by tests from the other side.
pub struct TestStack {
    /// All connections there ever were.
    pub pipes: Vec<Pipe>,
    /// Ports that are listened on.
    pub ports: Vec<u16>,
    /// Bytes handed out per receive call at most.
    pub chunk: usize,
    /// Bytes taken per call that sends at most.
    pub piece: usize,
    /// Bytes to the host that fit a connection.
    pub window: usize,
    /// Memory of shared buffers that it says it keeps for each connection, bytes.
    pub held: usize,
    /// How many of the first connections have all been accepted.
    settled: usize,
    /// The address that hosts reach it by.
    pub ours: IpAddress,
    /// Whether there is somebody to connect to. Of connections that are asked for, this side is the
    /// host: it receives what is called `to_target`, and sends `to_host`.
    pub reaches: bool,
}

impl Default for TestStack {
    fn default() -> Self {
        Self {
            pipes: Vec::new(),
            ports: Vec::new(),
            chunk: usize::MAX,
            piece: usize::MAX,
            window: usize::MAX,
            held: 0,
            settled: 0,
            ours: [10, 0, 0, 1].into(),
            reaches: false,
        }
    }
}

impl TestStack {
    /// One that hands over all there is, without connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that hands over at most `chunk` bytes at once, and takes at most `piece`.
    pub fn in_pieces(chunk: usize, piece: usize) -> Self {
        Self { chunk, piece, ..Self::default() }
    }

    /// A connection to a port that is listened on; its place in [`Self::pipes`].
    ///
    /// # Panics
    /// Nobody listens there.
    pub fn connect(&mut self, port: u16) -> usize {
        assert!(self.ports.contains(&port), "nobody listens on port {port}");
        self.say(port, &[])
    }

    /// A connection to a port, whether or not somebody listens there yet, on which the host has
    /// sent `bytes`; its place in [`Self::pipes`].
    pub fn say(&mut self, port: u16, bytes: &[u8]) -> usize {
        let to_target = bytes.iter().copied().collect();
        self.pipes.push(Pipe { port, to_target, ..Pipe::default() });
        self.pipes.len() - 1
    }

    /// As [`Self::say`], from one address to another.
    pub fn say_from(&mut self, ends: [IpAddress; 2], port: u16, bytes: &[u8]) -> usize {
        let at = self.say(port, bytes);
        self.pipes[at].ends = Some(ends);
        at
    }

    fn open(&mut self, socket: SocketId) -> Result<&mut Pipe, SocketError> {
        let pipe = self.pipes.get_mut(socket.slot as usize).ok_or(SocketError::Reset)?;
        if pipe.target_closed || pipe.target_reset { Err(SocketError::Reset) } else { Ok(pipe) }
    }
}

impl NetStack for TestStack {
    fn poll(&mut self, _: Instant) -> Work {
        Work::IDLE
    }

    fn listen(&mut self, port: u16) -> Result<ListenerId, ListenError> {
        if self.ports.contains(&port) {
            return Err(ListenError::InUse);
        }
        self.ports.push(port);
        Ok(ListenerId(u32::from(port)))
    }

    fn unlisten(&mut self, listener: ListenerId) {
        self.ports.retain(|port| u32::from(*port) != listener.0);
    }

    fn accept(&mut self, listener: ListenerId) -> Option<SocketId> {
        let wanted = |pipe: &Pipe| !pipe.accepted && u32::from(pipe.port) == listener.0;
        while self.pipes.get(self.settled).is_some_and(|pipe| pipe.accepted) {
            self.settled += 1;
        }
        let slot = self.settled + self.pipes[self.settled..].iter().position(wanted)?;
        self.pipes[slot].accepted = true;
        Some(SocketId { slot: slot as u32, generation: 0 })
    }

    fn connect(&mut self, peer: Endpoint) -> Result<SocketId, ConnectError> {
        if !self.reaches {
            return Err(ConnectError::BadAddress);
        }
        self.pipes.push(Pipe { port: peer.port(), accepted: true, ..Pipe::default() });
        Ok(SocketId { slot: (self.pipes.len() - 1) as u32, generation: 0 })
    }

    fn recv(
        &mut self,
        socket: SocketId,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> Result<usize, SocketError> {
        let chunk = self.chunk;
        let pipe = self.open(socket)?;
        if pipe.to_target.is_empty() {
            return if pipe.host_closed { Err(SocketError::Closed) } else { Ok(0) };
        }
        let (front, _) = pipe.to_target.as_slices();
        let bytes = &front[..front.len().min(chunk)];
        let taken = take(bytes);
        assert!(taken <= bytes.len());
        pipe.to_target.drain(..taken);
        Ok(taken)
    }

    fn send_vectored(
        &mut self,
        socket: SocketId,
        runs: &[DmaRun<'_>],
    ) -> Result<usize, SocketError> {
        let (window, mut piece) = (self.window, self.piece);
        let pipe = self.open(socket)?;
        let window = pipe.window.unwrap_or(window);
        let mut total = 0;
        for run in runs {
            let room = window.saturating_sub(pipe.to_host.len()).min(piece);
            let taken = run.len().min(room);
            pipe.to_host.extend(&run.as_slice()[..taken]);
            (total, piece) = (total + taken, piece - taken);
        }
        Ok(total)
    }

    /// It copies at once; what is shared with it takes the way that it would take to be kept.
    fn keeps_shared(&self) -> bool {
        true
    }

    fn held(&self, _: SocketId) -> usize {
        self.held
    }

    fn close(&mut self, socket: SocketId) {
        self.pipes[socket.slot as usize].target_closed = true;
    }

    fn abort(&mut self, socket: SocketId) {
        self.pipes[socket.slot as usize].target_reset = true;
    }

    fn peer(&self, socket: SocketId) -> Option<Endpoint> {
        let ends = self.pipes[socket.slot as usize].ends;
        Some(Endpoint::new(ends.map_or([10, 0, 0, 2].into(), |[peer, _]| peer), 50_000))
    }

    fn local(&self, socket: SocketId) -> Option<Endpoint> {
        let pipe = &self.pipes[socket.slot as usize];
        Some(Endpoint::new(pipe.ends.map_or(self.ours, |[_, ours]| ours), pipe.port))
    }

    fn address(&self) -> Option<IpAddress> {
        Some(self.ours)
    }
}
