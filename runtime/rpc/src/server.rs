use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_env::CoreId;
use basalt_reactor::Local;
use basalt_serve::{Answer, Content, Conversation, Gate, Reply, Rules, Server, WhenFull};
use serde_json::Value;

use crate::message::reply;
use crate::{Found, Framer, Question, Rpc, RpcError, ask};

/// The TCP port, the default of SPDK's client.
pub const PORT: u16 = 5260;

/// Most connections of one core, as in SPDK.
pub const CONNECTIONS_MAX: usize = 64;

/// Most bytes of replies a peer may leave unread, as in SPDK, and all peers of a core together.
pub const PENDING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Clients may be silent for as long as they like.
const RULES: Rules = Rules {
    name: "rpc",
    connections_max: CONNECTIONS_MAX,
    when_full: WhenFull::Refuse,
    unread_bytes_max: PENDING_BYTES_MAX,
    stall_max: Duration::from_secs(60),
    patience: None,
    complaints: log::Level::Warn,
};

/// Serves the JSON-RPC connections of one core that `gate`, which is a service of it, lets in, on
/// `port` (usually [`PORT`]).
pub fn server(gate: Rc<Gate>, port: u16) -> Server {
    Server::new(RULES, gate, port, || Box::new(Calls::default()))
}

/// One client's calls. Nobody knows where the next one would begin after bytes that are no message,
/// so that they are the last.
#[derive(Default)]
struct Calls {
    framer: Framer,
}

impl Conversation for Calls {
    /// Has the boot core carry the message out.
    fn receive(&mut self, local: &Local, bytes: &[u8]) -> (usize, Option<Answer>) {
        match self.framer.feed(bytes) {
            Ok((taken, message)) => {
                let answer = |message| Answer::Later(Box::pin(carry_out(local.clone(), message)));
                (taken, message.map(answer))
            }
            Err(error) => {
                log::warn!(target: "rpc", "closing a connection: {error}");
                let message = alloc::format!("Parse error: {error}");
                let error = RpcError::new(RpcError::PARSE, message);
                let last = line(reply(Value::Null, Err(error))).last();
                (bytes.len(), Some(Answer::Now(last)))
            }
        }
    }

    fn is_amid(&self) -> bool {
        self.framer.is_mid_message()
    }
}

/// A reply on a line of its own.
fn line(mut text: Vec<u8>) -> Reply {
    text.push(b'\n');
    Reply::new(text, Content::None)
}

/// What the boot core has to say to a message, or why it has nothing.
type Answered = Result<Option<Vec<u8>>, &'static str>;

/// Carries a message out on the boot core.
async fn carry_out(local: Local, message: Value) -> Option<Reply> {
    let question: Question = Box::new(move |boot| {
        Box::pin(async move {
            let answer: Answered = match boot.service::<Rpc>() {
                Some(rpc) => Ok(rpc.answer(message).await),
                None => Err("is not running"),
            };
            Box::new(answer) as Found
        })
    });
    let found = ask(&local, CoreId::BOOT, question).await;
    let reason = match found.map(|found| found.downcast::<Answered>()) {
        Ok(Ok(answer)) => match *answer {
            Ok(text) => return text.map(line),
            Err(reason) => reason,
        },
        Ok(Err(_)) | Err(_) => "is too busy to take the call",
    };
    let message = alloc::format!("The control plane {reason}");
    Some(line(reply(Value::Null, Err(RpcError::new(RpcError::INTERNAL, message)))))
}
