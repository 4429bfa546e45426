use alloc::vec::Vec;

use crate::Status;
use crate::accept::{has, quality_of, takes_gzip};
use crate::page;

/// Most bytes of a request, up to the empty line.
pub const REQUEST_BYTES_MAX: usize = 8 << 10;

/// Most bytes of what is asked for.
pub const TARGET_BYTES_MAX: usize = 2 << 10;

/// Most header fields of a request.
const FIELDS_MAX: usize = 64;

/// Media types of the metrics.
const OPENMETRICS: &str = "application/openmetrics-text";
const PLAIN: &str = "text/plain";

/// How a resource is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`: as `GET`, but without the content.
    Head,
}

/// What there is to be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// The page.
    Page,
    /// The page, which the client has.
    SamePage,
    /// The metrics in OpenMetrics text.
    Metrics,
    /// The metrics in the text format of Prometheus.
    PlainMetrics,
    /// What everything is and has done, in JSON.
    State,
    /// The log from that line on, in JSON.
    Log(u64),
}

/// What becomes of the connection once a request is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// The next request may come.
    KeepAlive,
    /// It ends.
    Close,
}

/// A request that can be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// How it asks.
    pub method: Method,
    /// For what, or why it does not get it.
    pub resource: Result<Resource, Status>,
    /// What comes then.
    pub after: After,
}

/// Reads requests from a stream of bytes, without the socket: up to the end of the first one, which
/// is the empty line, as none may have content.
#[derive(Debug, Default)]
pub struct RequestReader {
    bytes: Vec<u8>,
    /// Bytes of the line that is being read, but for its end.
    line: usize,
}

impl RequestReader {
    /// Takes received bytes up to the end of the first request; gives how many were taken, and the
    /// request, or the status with which the connection is to end.
    pub fn receive(&mut self, bytes: &[u8]) -> (usize, Option<Result<Request, Status>>) {
        for (taken, byte) in (1..).zip(bytes) {
            // Empty lines before a request are no part of it (RFC 9112 §2.2).
            if self.bytes.is_empty() && matches!(byte, b'\r' | b'\n') {
                continue;
            }
            self.bytes.push(*byte);
            match byte {
                b'\n' if self.line == 0 => return (taken, Some(self.finish())),
                b'\n' => self.line = 0,
                b'\r' => {}
                _ => self.line += 1,
            }
            if self.bytes.len() == REQUEST_BYTES_MAX {
                return (taken, Some(Err(self.too_long())));
            }
        }
        (bytes.len(), None)
    }

    /// Whether nothing of a request was received yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn too_long(&self) -> Status {
        let has_line = self.bytes.contains(&b'\n');
        if has_line { Status::FieldsTooLarge } else { Status::TargetTooLong }
    }

    fn finish(&mut self) -> Result<Request, Status> {
        self.line = 0;
        parse(&core::mem::take(&mut self.bytes))
    }
}

/// The fields of a request that matter here.
#[derive(Default)]
struct Fields<'a> {
    hosts: u32,
    has_content: bool,
    connection: Option<&'a str>,
    accept: Option<&'a str>,
    accept_encoding: Option<&'a str>,
    if_none_match: Option<&'a str>,
}

#[inline(never)]
fn parse(bytes: &[u8]) -> Result<Request, Status> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Status::BadRequest),
        Err(httparse::Error::TooManyHeaders) => return Err(Status::FieldsTooLarge),
        Err(httparse::Error::Version) => return Err(Status::VersionNotSupported),
        Err(_) => return Err(Status::BadRequest),
    }
    let (Some(method), Some(target)) = (head.method, head.path) else {
        return Err(Status::BadRequest);
    };
    let is_1_1 = head.version == Some(1);
    let fields = Fields::read(head.headers)?;
    if target.len() > TARGET_BYTES_MAX {
        return Err(Status::TargetTooLong);
    }
    if fields.hosts > 1 || (is_1_1 && fields.hosts == 0) {
        return Err(Status::BadRequest);
    }
    if fields.has_content {
        return Err(Status::ContentTooLarge);
    }
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        _ => return Err(Status::MethodNotAllowed),
    };
    let after = if is_1_1 && !fields.says_close() { After::KeepAlive } else { After::Close };
    Ok(Request { method, resource: find(target, &fields), after })
}

impl<'a> Fields<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Self, Status> {
        let mut fields = Self::default();
        for header in headers {
            let name = header.name;
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            // Of fields that are a list the first says enough.
            let place = if is("host") {
                fields.hosts += 1;
                continue;
            } else if is("transfer-encoding") {
                fields.has_content = true;
                continue;
            } else if is("content-length") {
                fields.has_content |= header.value != b"0";
                continue;
            } else if is("connection") {
                &mut fields.connection
            } else if is("accept") {
                &mut fields.accept
            } else if is("accept-encoding") {
                &mut fields.accept_encoding
            } else if is("if-none-match") {
                &mut fields.if_none_match
            } else {
                continue;
            };
            let value = core::str::from_utf8(header.value).map_err(|_| Status::BadRequest)?;
            place.get_or_insert(value);
        }
        Ok(fields)
    }

    fn says_close(&self) -> bool {
        let mut options = self.connection.unwrap_or_default().split(',');
        options.any(|option| option.trim().eq_ignore_ascii_case("close"))
    }

    fn page(&self) -> Result<Resource, Status> {
        if !takes_gzip(self.accept_encoding) {
            return Err(Status::NotAcceptable);
        }
        let is_same = self.if_none_match.is_some_and(|tags| has(tags, page::TAG));
        Ok(if is_same { Resource::SamePage } else { Resource::Page })
    }

    fn metrics(&self) -> Result<Resource, Status> {
        let [open, plain] = [OPENMETRICS, PLAIN].map(|media| quality_of(self.accept, media));
        match open.max(plain) {
            0 => Err(Status::NotAcceptable),
            _ if open >= plain => Ok(Resource::Metrics),
            _ => Ok(Resource::PlainMetrics),
        }
    }
}

/// What is at `target`, which is a path and a query, or a whole URI (RFC 9112 §3.2).
#[inline(never)]
fn find(target: &str, fields: &Fields<'_>) -> Result<Resource, Status> {
    let local = match target.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("http://") => {
            target[7..].find(['/', '?']).map_or("/", |at| &target[7 + at..])
        }
        _ => target,
    };
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    match path {
        "/" | "" => fields.page(),
        "/metrics" => fields.metrics(),
        "/api/state" => Ok(Resource::State),
        "/api/log" => read_since(query).map(Resource::Log),
        _ => Err(Status::NotFound),
    }
}

/// The number of `since=N` in a query; 0 if there is none.
fn read_since(query: &str) -> Result<u64, Status> {
    let since = query.split('&').find_map(|part| part.strip_prefix("since="));
    since.map_or(Ok(0), |text| text.parse().map_err(|_| Status::BadRequest))
}
