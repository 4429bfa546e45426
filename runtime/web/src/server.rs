use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use core::time::Duration;

use basalt_env::CoreId;
use basalt_reactor::Local;
use basalt_rpc::{Question, ask};
use basalt_serve::{Answer, Conversation, Gate, Patience, Reply, Rules, Server, WhenFull};

use crate::collector::{Collector, Rendering};
use crate::response::{Found, reply};
use crate::{After, Method, Request, RequestReader, Resource, Status};

/// The TCP port.
pub const PORT: u16 = 9090;

/// Most connections of one core.
pub const CONNECTIONS_MAX: usize = 64;

const RULES: Rules = Rules {
    name: "web",
    connections_max: CONNECTIONS_MAX,
    when_full: WhenFull::QuietestMakesWay,
    unread_bytes_max: 16 << 20,
    stall_max: Duration::from_secs(30),
    patience: Some(Patience { idle: Duration::from_secs(120), request: Duration::from_secs(10) }),
    complaints: log::Level::Debug,
};

/// Serves the HTTP connections of one core that `gate` lets in, on `port` (usually [`PORT`]) or on
/// the one that the gate chooses. `started_at` is the time of day when the clock started, in
/// seconds since 1970, if it is known.
pub fn server(gate: Rc<Gate>, port: u16, started_at: Option<u64>) -> Server {
    let begin = move || -> Box<dyn Conversation> {
        Box::new(Requests { reader: RequestReader::default(), started_at })
    };
    Server::new(RULES, gate, port, begin)
}

/// One client's requests.
struct Requests {
    reader: RequestReader,
    started_at: Option<u64>,
}

impl Conversation for Requests {
    fn receive(&mut self, local: &Local, bytes: &[u8]) -> (usize, Option<Answer>) {
        let (taken, request) = self.reader.receive(bytes);
        let answer = request.map(|request| match request {
            Ok(request) => answer(local, request, self.started_at),
            Err(status) => Answer::Now(self.refuse(local, status)),
        });
        (taken, answer)
    }

    fn is_amid(&self) -> bool {
        !self.reader.is_empty()
    }

    fn give_up(&mut self, local: &Local) -> Option<Reply> {
        Some(self.refuse(local, Status::Timeout))
    }
}

impl Requests {
    /// Ends the connection, as nobody knows where the next request would begin.
    fn refuse(&self, local: &Local, status: Status) -> Reply {
        let unix_s = unix_s(local, self.started_at);
        reply(Method::Get, Found::Refusal(status), After::Close, unix_s)
    }
}

fn unix_s(local: &Local, started_at: Option<u64>) -> Option<u64> {
    started_at.map(|start| start + local.now().as_us() / 1_000_000)
}

/// Answers at once what this core knows, and has the rest found out.
fn answer(local: &Local, request: Request, started_at: Option<u64>) -> Answer {
    let Request { method, resource, after } = request;
    let rendering = match resource {
        Ok(Resource::Page) => Err(Found::Page),
        Ok(Resource::SamePage) => Err(Found::SamePage),
        Err(status) => Err(Found::Refusal(status)),
        Ok(Resource::Log(since)) => Ok(Rendering::Log(since)),
        Ok(Resource::State) => Ok(Rendering::State),
        Ok(Resource::PlainMetrics) => Ok(Rendering::PlainMetrics),
        Ok(Resource::Metrics) => Ok(Rendering::Metrics),
    };
    let local = local.clone();
    match rendering {
        Err(found) => Answer::Now(reply(method, found, after, unix_s(&local, started_at))),
        Ok(rendering) => Answer::Later(Box::pin(async move {
            let found = find(&local, rendering).await;
            Some(reply(method, found, after, unix_s(&local, started_at)))
        })),
    }
}

/// Finds out what takes longer than a round.
async fn find(local: &Local, rendering: Rendering) -> Found {
    let question: Question = Box::new(move |boot| match boot.service::<Collector>() {
        Some(collector) => collector.render(rendering),
        None => Box::pin(async { Box::new(()) as basalt_rpc::Found }),
    });
    let found = ask(local, CoreId::BOOT, question).await;
    match found.map(|found| found.downcast::<Arc<[u8]>>()) {
        Ok(Ok(text)) => Found::Text(rendering.media(), *text),
        Ok(Err(_)) | Err(_) => Found::Refusal(Status::Unavailable),
    }
}
