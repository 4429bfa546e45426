//! A client's bytes on a connection of a server of the control plane, and another client beside it.

use std::rc::Rc;
use std::time::Duration;

use basalt_serve::Server;

use crate::input::Input;
use crate::rpc::Controlled;

/// Rounds in which the other client is answered.
const PATIENCE: u32 = 2000;

/// A server that gets so many bytes at once.
pub struct Served {
    pub controlled: Controlled,
    pub server: Server,
    port: u16,
}

impl Served {
    /// With the server that `start` makes, which is at `port` and lets everybody in. The next byte
    /// says how much it gets at once.
    pub fn new(input: &mut Input<'_>, port: u16, start: fn(&Controlled) -> Server) -> Self {
        let controlled = Controlled::new();
        let server = start(&controlled);
        let chunk = [usize::MAX, 1, 13, 300][input.below(4)];
        controlled.stack.borrow_mut().chunk = chunk;
        let mut served = Self { controlled, server, port };
        // It listens from its first round on.
        served.rounds(1);
        served
    }

    /// A client that says `bytes`.
    pub fn connect(&self, bytes: &[u8]) -> usize {
        self.controlled.stack.borrow_mut().say(self.port, bytes)
    }

    /// A client says no more.
    pub fn close(&self, pipe: usize) {
        self.controlled.stack.borrow_mut().pipes[pipe].host_closed = true;
    }

    /// So many rounds of all.
    pub fn rounds(&mut self, count: u32) {
        let local = self.controlled.machine.local(0);
        let stack = Rc::clone(&self.controlled.stack);
        for _ in 0..count {
            self.controlled.machine.step();
            let _ = self.server.poll(&local, &mut *stack.borrow_mut());
        }
    }

    /// So much time, and some rounds.
    pub fn pass(&mut self, time: Duration) {
        self.controlled.machine.pass(time);
        self.rounds(100);
    }

    /// What a client has got.
    pub fn replies(&self, pipe: usize) -> Vec<u8> {
        self.controlled.stack.borrow().pipes[pipe].said()
    }

    /// What another client gets who says `bytes`: all there is once it ends with `end`.
    pub fn ask_beside(&mut self, bytes: &[u8], end: &[u8]) -> Vec<u8> {
        let pipe = self.connect(bytes);
        for _ in 0..PATIENCE {
            self.rounds(1);
            if self.replies(pipe).ends_with(end) {
                break;
            }
        }
        self.close(pipe);
        self.rounds(3);
        self.replies(pipe)
    }
}
