//! `/api/log`: the last lines of the log, as many as are kept.

use alloc::sync::Arc;

use basalt_env::{log_lines, log_lines_count, log_lines_lost};
use basalt_reactor::yield_now;
use log::Level;

use crate::json::Json;
use crate::response::Content;

/// The lines from number `since` on, or all if there is no such number: it is of an earlier start.
pub async fn render(since: u64) -> Content {
    let end = log_lines_count();
    let since = if since > end { 0 } else { since };
    let mut json = Json::default();
    json.open("", '{');
    json.open("lines", '[');
    let (mut next, mut dropped) = (since, None);
    while next < end {
        let lines = log_lines(next);
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { break };
        dropped.get_or_insert(first.n.saturating_sub(since));
        next = last.n + 1;
        for line in &lines {
            let level = Level::iter().nth(usize::from(line.level).saturating_sub(1));
            json.open("", '{');
            json.numbers(&[("n", line.n), ("us", line.us)]);
            json.text("level", level.unwrap_or(Level::Error).as_str());
            json.text("target", &line.target);
            json.text("message", &line.message);
            json.close('}');
        }
        // A few KiB at a time, as the core has other work.
        yield_now().await;
    }
    json.close(']');
    json.numbers(&[("next", next), ("dropped", dropped.unwrap_or(0)), ("lost", log_lines_lost())]);
    json.close('}');
    Content::Text("application/json", Arc::from(json.finish().into_bytes()))
}
