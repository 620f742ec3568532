//! Checks a client's first message.

use super::tokens::{Identity, Rejected, Tokens};
use ovis_protocol::limits::{MAGIC, PROTOCOL_VERSION};
use ovis_protocol::{decode_client, ClientHello, ClientMessage, ErrorCode, WireError};

/// Decodes and checks a client's hello. Also returns who the client is, by its token.
///
/// The version is read before the rest, because a hello of another version may not decode:
/// variant, magic and version are the first three `u32`s in every version.
///
/// # Errors
/// `BadMessage` if it is not a hello, `VersionMismatch`, or `Unauthorized` if the worker has
/// tokens and the client has sent none of them.
pub fn check(bytes: &[u8], tokens: &Tokens) -> Result<(ClientHello, Identity), WireError> {
    let word = |at: usize| {
        let bytes = bytes.get(at * 4..at * 4 + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    if (word(0), word(1)) != (Some(0), Some(MAGIC)) {
        return Err(WireError::new(
            ErrorCode::BadMessage,
            "The first message of a connection must be a Hello of the Ovis protocol.",
            "Is this client meant for an ovis-worker?",
        ));
    }
    let theirs = word(2).unwrap_or(0);
    if theirs != PROTOCOL_VERSION {
        let older = if theirs < PROTOCOL_VERSION {
            "client"
        } else {
            "worker"
        };
        return Err(WireError::new(
            ErrorCode::VersionMismatch,
            format!("The client speaks protocol {theirs} and this worker speaks protocol {PROTOCOL_VERSION}."),
            format!("Update the {older}, the older of the two."),
        ));
    }
    let hello = match decode_client(bytes) {
        Ok(ClientMessage::Hello(hello)) => hello,
        Ok(_) => return Err(bad("not a Hello")),
        Err(error) => return Err(bad(&error.to_string())),
    };
    match tokens.identify(hello.token.as_deref()) {
        Ok(identity) => Ok((hello, identity)),
        Err(Rejected::Wrong) => Err(unauthorized("The client's token is not this worker's.")),
        Err(Rejected::Missing) => Err(unauthorized(
            "This worker wants a token and the client has sent none.",
        )),
    }
}

/// The error of a connection whose token the operator has removed or changed.
pub fn revoked() -> WireError {
    WireError::new(
        ErrorCode::Unauthorized,
        "The operator has removed or changed the client's token.",
        "Ask the worker's operator for the new token.",
    )
}

fn bad(reason: &str) -> WireError {
    WireError::new(
        ErrorCode::BadMessage,
        format!("The client's Hello cannot be read: {reason}."),
        "",
    )
}

fn unauthorized(message: &str) -> WireError {
    WireError::new(
        ErrorCode::Unauthorized,
        message,
        "Set OVIS_WORKER_TOKEN to the same value for the worker and the client.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tokens::Token;
    use ovis_protocol::encode;

    fn hello(protocol: u32, token: Option<&str>) -> Vec<u8> {
        encode(&ClientMessage::Hello(ClientHello {
            magic: MAGIC,
            protocol,
            client: "test".into(),
            token: token.map(String::from),
            secret: None,
        }))
        .unwrap()
    }

    fn tokens(text: Option<&str>) -> Tokens {
        text.map_or_else(Tokens::default, |text| Tokens::one(Token::given(text)))
    }

    fn code(bytes: &[u8], token: Option<&str>) -> ErrorCode {
        check(bytes, &tokens(token)).unwrap_err().code
    }

    #[test]
    fn versions_refuse_each_other() {
        let newer = check(&hello(PROTOCOL_VERSION + 1, None), &Tokens::default()).unwrap_err();
        assert_eq!(newer.code, ErrorCode::VersionMismatch);
        assert!(newer.hint.contains("worker"));
        let older = check(&hello(PROTOCOL_VERSION - 1, None), &Tokens::default()).unwrap_err();
        assert!(older.hint.contains("client"));
        // The rest of another version's hello may be anything.
        let mut bytes = hello(PROTOCOL_VERSION + 7, None);
        bytes.truncate(12);
        assert_eq!(code(&bytes, None), ErrorCode::VersionMismatch);
    }

    #[test]
    fn tokens_are_compared() {
        assert!(check(&hello(PROTOCOL_VERSION, None), &Tokens::default()).is_ok());
        assert!(check(&hello(PROTOCOL_VERSION, Some("x")), &Tokens::default()).is_ok());
        assert!(check(&hello(PROTOCOL_VERSION, Some("abc")), &tokens(Some("abc"))).is_ok());
        let wrong = hello(PROTOCOL_VERSION, Some("abd"));
        assert_eq!(code(&wrong, Some("abc")), ErrorCode::Unauthorized);
        let none = hello(PROTOCOL_VERSION, None);
        assert_eq!(code(&none, Some("abc")), ErrorCode::Unauthorized);
    }

    #[test]
    fn a_hello_is_printed_without_its_token() {
        let Ok(ClientMessage::Hello(hello)) =
            decode_client(&hello(PROTOCOL_VERSION, Some("s3cret")))
        else {
            panic!("not a hello");
        };
        let text = format!("{hello:?} {:?}", ClientMessage::Hello(hello.clone()));
        assert!(
            text.contains("client: \"test\"") && !text.contains("s3cret"),
            "{text}"
        );
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(code(b"", None), ErrorCode::BadMessage);
        assert_eq!(code(b"GET / HTTP/1.1", None), ErrorCode::BadMessage);
        let status = encode(&ClientMessage::Status).unwrap();
        assert_eq!(code(&status, None), ErrorCode::BadMessage);
        let cut = &hello(PROTOCOL_VERSION, None)[..14];
        assert_eq!(code(cut, None), ErrorCode::BadMessage);
    }
}
