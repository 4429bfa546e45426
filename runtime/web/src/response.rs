use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::{self, Write as _};

use basalt_serve::{Content, Reply};
use time::{Date, UtcDateTime};

use crate::page;
use crate::{After, Method};

/// How a request ends (RFC 9110 §15).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It is answered.
    Ok,
    /// The client has the answer.
    NotModified,
    /// It makes no sense.
    BadRequest,
    /// There is no such resource.
    NotFound,
    /// Resources are read only.
    MethodNotAllowed,
    /// The client does not take the form that it has.
    NotAcceptable,
    /// The client did not finish it in time.
    Timeout,
    /// Requests have no content.
    ContentTooLarge,
    /// What is asked for has too long a name.
    TargetTooLong,
    /// There are too many header fields, or too long ones.
    FieldsTooLarge,
    /// The core that knows the answer cannot give it now.
    Unavailable,
    /// Another version of HTTP than 1.0 and 1.1.
    VersionNotSupported,
}

impl Status {
    /// Its code and phrase.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::NotModified => "304 Not Modified",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::NotAcceptable => "406 Not Acceptable",
            Self::Timeout => "408 Request Timeout",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::TargetTooLong => "414 URI Too Long",
            Self::FieldsTooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    /// What to do about it, for who reads it.
    const fn remedy(self) -> &'static str {
        match self {
            Self::NotFound => "there are /, /metrics, /api/state and /api/log",
            Self::MethodNotAllowed => "everything here is read only: use GET or HEAD",
            Self::NotAcceptable => {
                "/ is sent in gzip, /metrics as application/openmetrics-text or text/plain"
            }
            Self::Unavailable => "try again",
            _ => "see RFC 9110 and RFC 9112",
        }
    }
}

/// What an answer holds.
#[derive(Clone, Debug)]
pub enum Found {
    /// The page.
    Page,
    /// Text that was made for this and perhaps other requests, and its media type.
    Text(&'static str, Arc<[u8]>),
    /// Why there is no answer.
    Refusal(Status),
    /// Nothing: the client has it.
    SamePage,
}

impl Found {
    fn status(&self) -> Status {
        match self {
            Self::Page | Self::Text(..) => Status::Ok,
            Self::Refusal(status) => *status,
            Self::SamePage => Status::NotModified,
        }
    }
}

/// The answer to a request of `method`, after which the connection does as `after` says. `unix_s`
/// is the time of day, if it is known.
pub fn reply(method: Method, found: Found, after: After, unix_s: Option<u64>) -> Reply {
    let status = found.status();
    let mut head = String::new();
    // Writing to a string does not fail.
    let _ = write!(head, "HTTP/1.1 {}\r\n", status.phrase());
    if let Some(date) = unix_s.and_then(date) {
        let _ = write!(head, "Date: {date}\r\n");
    }
    let (media, mut content) = match found {
        Found::Text(media, text) => (Some(media), Content::Shared(text)),
        Found::Refusal(status) => {
            let text = alloc::format!("{}: {}\n", status.phrase(), status.remedy());
            (Some("text/plain; charset=utf-8"), Content::Shared(text.into_bytes().into()))
        }
        Found::Page => (None, Content::Static(page::PAGE)),
        Found::SamePage => (None, Content::None),
    };
    if let Some(media) = media {
        let _ = write!(head, "Content-Type: {media}\r\nCache-Control: no-store\r\n");
    } else {
        let (tag, policy) = (page::TAG, page::POLICY);
        let _ = write!(
            head,
            "Content-Type: text/html; charset=utf-8\r\nContent-Encoding: gzip\r\n\
             Vary: Accept-Encoding\r\nCache-Control: no-cache\r\nETag: {tag}\r\n\
             Content-Security-Policy: {policy}\r\n"
        );
    }
    if status == Status::MethodNotAllowed {
        head.push_str("Allow: GET, HEAD\r\n");
    }
    if status != Status::NotModified {
        let _ = write!(head, "Content-Length: {}\r\n", content.as_slice().len());
    }
    if after == After::Close {
        head.push_str("Connection: close\r\n");
    }
    // Nobody else's page is to make use of it, nor a browser of what it is not said to be.
    head.push_str(
        "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\n\r\n",
    );
    if method == Method::Head {
        content = Content::None;
    }
    let reply = Reply::new(head.into_bytes(), content);
    if after == After::Close { reply.last() } else { reply }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
fn date(unix_s: u64) -> Option<impl fmt::Display> {
    let moment = UtcDateTime::from_unix_timestamp(i64::try_from(unix_s).ok()?).ok()?;
    Some(HttpDate(moment))
}

struct HttpDate(UtcDateTime);

impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let date: Date = self.0.date();
        let day = DAYS[usize::from(date.weekday().number_days_from_monday()) % 7];
        let month = MONTHS[(date.month() as usize - 1) % 12];
        let (hour, minute, second) = self.0.as_hms();
        let (number, year) = (date.day(), date.year());
        write!(f, "{day}, {number:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
    }
}
