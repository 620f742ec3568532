//! Turns tracing events into lines: one line for each event, of bounded length, with control
//! characters escaped.

use serde_json::{json, Map, Value};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::fields::Fields;
use super::writer::LineWriter;
use crate::text::{clean, escape_json_into, is_unsafe};

/// Formats of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line of text for each event.
    Text,
    /// One JSON object for each event, on one line.
    Json,
}

/// A tracing layer that writes every event as a line.
pub struct LogLayer<'a> {
    /// Format of the lines.
    pub format: LogFormat,
    /// Whether text lines use colours.
    pub has_colours: bool,
    /// Where the lines go.
    pub writer: &'a LineWriter,
}

/// The content of a line.
struct Line<'a> {
    level: Level,
    target: &'a str,
    /// Name, fields as text and fields as JSON of each span, the outermost first.
    spans: &'a [(&'static str, String, Value)],
    fields: &'a Fields,
}

impl<S> Layer<S> for LogLayer<'static>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    /// Drops events of other crates below `info`, whatever the filter allows: a websocket
    /// library logs its frames, and they hold the clients' tokens.
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with("ovis_") || *metadata.level() <= Level::INFO
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
                values.record(fields);
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let spans: Vec<_> = context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
            .map(|span| match span.extensions().get::<Fields>() {
                Some(fields) => (span.name(), fields.as_text(), as_json(fields)),
                None => (span.name(), String::new(), json!({})),
            })
            .collect();
        let line = Line {
            level: *event.metadata().level(),
            target: event.metadata().target(),
            spans: &spans,
            fields: &fields,
        };
        self.writer
            .push(line.render(self.format, self.has_colours).into_bytes());
    }
}

/// The line that reports how many lines were dropped.
pub fn dropped_line(format: LogFormat, has_colours: bool, count: u64) -> Vec<u8> {
    let mut fields = Fields::saying("log lines were dropped while nothing took them");
    fields.values.push(("dropped", count.into()));
    let line = Line {
        level: Level::WARN,
        target: "ovis_worker::logging",
        spans: &[],
        fields: &fields,
    };
    line.render(format, has_colours).into_bytes()
}

impl Line<'_> {
    fn render(&self, format: LogFormat, has_colours: bool) -> String {
        match format {
            LogFormat::Text => self.text(has_colours),
            LogFormat::Json => self.json(),
        }
    }

    fn text(&self, has_colours: bool) -> String {
        let (time, level) = (now(), self.level.as_str());
        let mut text = match has_colours {
            true => format!(
                "\u{1b}[2m{time}\u{1b}[0m {}{level:>5}\u{1b}[0m ",
                colour(self.level)
            ),
            false => format!("{time} {level:>5} "),
        };
        for (name, fields, _) in self.spans {
            text.push_str(&format!("{name}{{{fields}}}: "));
        }
        text.push_str(&format!("{}: {}", self.target, clean(&self.fields.message)));
        if !self.fields.values.is_empty() {
            text.push(' ');
            text.push_str(&self.fields.as_text());
        }
        text.push('\n');
        text
    }

    fn json(&self) -> String {
        let mut fields = as_json(self.fields);
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("message".into(), self.fields.message.as_str().into());
        }
        let mut line = json!({
            "timestamp": now(),
            "level": self.level.as_str(),
            "fields": fields,
            "target": self.target,
        });
        let spans: Vec<_> = self
            .spans
            .iter()
            .map(|(name, _, fields)| {
                let mut span = fields.clone();
                span["name"] = (*name).into();
                span
            })
            .collect();
        if let Some(last) = spans.last() {
            line["span"] = last.clone();
            line["spans"] = spans.into();
        }
        let mut text = escaped_json(&line.to_string());
        text.push('\n');
        text
    }
}

/// Escapes the characters that JSON allows in strings but that a terminal would interpret. They
/// occur nowhere else in JSON, so the value stays the same.
fn escaped_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match is_unsafe(c) {
            true => escape_json_into(&mut text, c),
            false => text.push(c),
        }
    }
    text
}

fn as_json(fields: &Fields) -> Value {
    let values = fields.values.iter();
    let values: Map<_, _> = values.map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    Value::Object(values)
}

fn now() -> String {
    let mut text = String::new();
    // Ignored: writing to a string cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[35m",
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that are logged while `act` runs.
    fn logged(format: LogFormat, has_colours: bool, act: impl FnOnce()) -> Vec<String> {
        logged_to(Level::TRACE, format, has_colours, act)
    }

    fn logged_to(
        least: Level,
        format: LogFormat,
        has_colours: bool,
        act: impl FnOnce(),
    ) -> Vec<String> {
        let kept = Kept::default();
        let writer = LineWriter::start(kept.clone(), |_| Vec::new());
        let layer = LogLayer {
            format,
            has_colours,
            writer: Box::leak(Box::new(writer)),
        };
        let writer = layer.writer;
        let least = LevelFilter::from_level(least);
        let subscriber = tracing_subscriber::registry().with(least).with(layer);
        tracing::subscriber::with_default(subscriber, act);
        writer.flush(Duration::from_secs(20));
        let bytes = kept.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }

    fn forged() {
        let span = tracing::info_span!("job", name = "a b\n}: forged\u{1b}[2J");
        let _entered = span.enter();
        tracing::info!(
            name = "x\n2026-01-01T00:00:00Z ERROR forged: y=1\u{1b}[31m",
            shown = %"\u{202e}",
            count = 3,
            "a {} message", "two\r\nline",
        );
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let lines = logged(LogFormat::Text, false, forged);
        assert_eq!(lines.len(), 1);
        let (_, rest) = lines[0].split_once(" INFO ").unwrap();
        assert_eq!(
            rest,
            "job{name=\"a b\\n}: forged\\u{1b}[2J\"}: ovis_worker::logging::layer::tests: \
             a two\\r\\nline message \
             name=\"x\\n2026-01-01T00:00:00Z ERROR forged: y=1\\u{1b}[31m\" \
             shown=\"\\u{202e}\" count=3"
        );
    }

    #[test]
    fn json_keeps_what_was_said_and_shows_nothing_a_terminal_obeys() {
        let lines = logged(LogFormat::Json, false, forged);
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].contains(is_unsafe));
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["fields"]["message"], "a two\r\nline message");
        assert_eq!(line["fields"]["shown"], "\u{202e}");
        assert_eq!(line["fields"]["count"], 3);
        assert_eq!(line["span"]["name"], "job");
        assert_eq!(line["spans"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn lines_are_bounded() {
        let long = "\u{1b}\u{e0001}".repeat(1 << 18);
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = logged(format, false, || {
                let long = long.as_str();
                let span = tracing::info_span!("job", long);
                let _entered = span.enter();
                tracing::info!(a = long, b = long, c = long, d = long, e = long, "{long}");
            });
            assert_eq!(lines.len(), 1);
            assert!(lines[0].len() < 24 << 10, "{}", lines[0].len());
            assert!(lines[0].contains(&format!("… ({} bytes)", long.len())));
        }
    }

    #[test]
    fn colours_are_only_there_where_they_are_wanted() {
        let say = || tracing::warn!("x");
        assert!(logged(LogFormat::Text, true, say)[0].contains("\u{1b}[33m"));
        assert!(!logged(LogFormat::Text, false, say)[0].contains('\u{1b}'));
        assert!(!logged(LogFormat::Json, true, say)[0].contains('\u{1b}'));
    }

    #[test]
    fn a_panic_is_one_line_and_its_frames_are_for_debug() {
        crate::logging::install_panic_hook();
        let fail = || {
            let failed = std::panic::catch_unwind(|| panic!("a\n\u{1b}{}", "x".repeat(1 << 20)));
            assert!(failed.is_err());
        };
        let lines = logged_to(Level::INFO, LogFormat::Text, false, fail);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("ERROR ovis_worker::logging::panics: unexpected failure"));
        assert!(
            lines[0].contains("panic=\"a\\n\\u{1b}xxx") && lines[0].contains("(1048579 bytes)")
        );
        assert!(lines[0].contains("layer.rs:") && lines[0].len() < 2048);
        let lines = logged_to(Level::DEBUG, LogFormat::Text, false, fail);
        assert!(lines.len() > 2 && lines[1].contains(" DEBUG ") && lines[1].contains("frame="));
    }

    #[test]
    fn other_crates_are_heard_from_info_on() {
        let lines = logged(LogFormat::Text, false, || {
            tracing::trace!(target: "tungstenite::protocol", "a token");
            tracing::debug!(target: "hyper", "a token");
            tracing::info!(target: "hyper", "heard");
            tracing::trace!("ours");
        });
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("hyper: heard"));
        assert!(lines[1].ends_with(": ours"));
    }
}
