//! The protocol document states this server's limits.

use crate::jobs::{Limits, DEFAULT_QUEUE};
use crate::server::{http, Options};

#[test]
fn the_document_states_this_servers_limits() {
    let document = include_str!("../../../../protocol/README.md").replace(',', "");
    let options = Options::default();
    let limits = options.connections;
    let seconds = |duration: std::time::Duration| duration.as_secs();
    for words in [
        format!("`serve --queue` {DEFAULT_QUEUE} by default"),
        format!(
            "results and previews of all owners | `serve --keep` {} bytes by default",
            Limits::default().kept_bytes
        ),
        format!(
            "connections that have completed the handshake | `serve --connections` {} by default",
            limits.clients
        ),
        format!(
            "sockets that have not completed the handshake | {} and {} of one address",
            limits.silent, limits.silent_per_address
        ),
        format!("head of an HTTP request | {} bytes", http::MAX_HEAD),
        format!("pings every\n  {} seconds", seconds(options.ping_interval)),
        format!(
            "not even a pong for {} seconds",
            3 * seconds(options.ping_interval)
        ),
        format!(
            "`Hello` within {} seconds",
            seconds(options.handshake_timeout)
        ),
        format!(
            "(`serve --grace`\n  {} seconds by default)",
            seconds(options.grace)
        ),
    ] {
        assert!(document.contains(&words), "{words}");
    }
}
