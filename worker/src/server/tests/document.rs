//! The protocol's document against this server's own numbers.

use crate::engine::DEFAULT_QUEUE;
use crate::server::{http, Options};

#[test]
fn the_document_has_this_servers_numbers() {
    let document = include_str!("../../../../protocol/README.md").replace(',', "");
    let options = Options::default();
    let crowd = options.crowd;
    let seconds = |duration: std::time::Duration| duration.as_secs();
    for words in [
        format!("`serve --queue` {DEFAULT_QUEUE}"),
        format!(
            "results and previews that all connections have not read | {} bytes",
            options.unsent_bytes
        ),
        format!("connections that have said hello | {} ", crowd.clients),
        format!(
            "sockets that have not said hello | {} and {} of one address",
            crowd.silent, crowd.silent_of_one
        ),
        format!("the head of a request | {} bytes", http::MAX_HEAD),
        format!("pings every {} seconds", seconds(options.ping_interval)),
        format!(
            "(not even a\n  pong) for {}",
            3 * seconds(options.ping_interval)
        ),
        format!(
            "`Hello` within {} seconds",
            seconds(options.handshake_timeout)
        ),
        format!("(`serve --grace` {} seconds)", seconds(options.grace)),
    ] {
        assert!(document.contains(&words), "{words}");
    }
}
