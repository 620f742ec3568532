//! What a token allows.

use std::fmt;

use ovis_protocol::{ClientMessage, ErrorCode, JobId, WireError, WorkerMessage};

/// One thing that a token may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To have jobs: every message of a client.
    Submit,
    /// To look on: `Status`, `ListAdapters`, `/health`, `/metrics` and `/jobs`.
    Observe,
    /// Everything, and to drain the worker and cancel anybody's job.
    Administer,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Submit, Self::Observe, Self::Administer];

    /// The role's name in a file of tokens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Observe => "observe",
            Self::Administer => "administer",
        }
    }
}

/// What a token allows: at least one role.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Roles(u8);

/// What is done with a client's message.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It is handled.
    Allowed,
    /// Its job is answered with this.
    Forbidden(Box<WorkerMessage>),
    /// Nothing: its job was answered before.
    Ignored,
}

impl Roles {
    /// Everything.
    pub const ALL: Self = Self(0b111);

    /// Everyone's roles while there are no tokens: to use the worker, but not to administer it.
    /// Otherwise, every program on the machine could stop the work of others.
    pub const OPEN: Self = Self::of(Role::Submit).and(Role::Observe);

    /// One role.
    pub const fn of(role: Role) -> Self {
        Self(1 << role as u8)
    }

    /// These and another one.
    pub const fn and(self, role: Role) -> Self {
        Self(self.0 | Self::of(role).0)
    }

    /// Whether something that needs this role is allowed.
    pub fn allow(self, role: Role) -> bool {
        self.0 & (Self::of(role).0 | Self::of(Role::Administer).0) != 0
    }

    /// Whether a client's message is allowed. Chunks of a job whose `Submit` was forbidden are
    /// ignored: a client sends them without waiting for the answer.
    pub fn judge(self, message: &ClientMessage) -> Verdict {
        let job = match message {
            // Every role allows a hello, and questions for the status and the adapters.
            ClientMessage::Hello(_) | ClientMessage::Status | ClientMessage::ListAdapters => {
                return Verdict::Allowed;
            }
            _ if self.allow(Role::Submit) => return Verdict::Allowed,
            ClientMessage::Chunk(_) => return Verdict::Ignored,
            ClientMessage::Submit { job, .. }
            | ClientMessage::Cancel { job }
            | ClientMessage::Claim { job, .. }
            | ClientMessage::Acknowledge { job } => *job,
        };
        Verdict::Forbidden(self.forbidden(job).into())
    }

    fn forbidden(self, job: JobId) -> WorkerMessage {
        let error = WireError::new(
            ErrorCode::Forbidden,
            format!(
                "The client's token has the roles `{self}`, and jobs need `{}`.",
                Role::Submit.name()
            ),
            "Ask the worker's operator for a token with that role.",
        );
        WorkerMessage::Failed { job, error }
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |role: &&Role| self.0 & Self::of(**role).0 != 0;
        let names: Vec<_> = Role::ALL.iter().filter(has).map(|r| r.name()).collect();
        f.write_str(&names.join(","))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roles({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovis_protocol::{Chunk, JobOptions, Request};

    fn messages() -> Vec<ClientMessage> {
        let job = [1; 16];
        vec![
            ClientMessage::Submit {
                job,
                request: Request::Decode,
                tensors: vec![],
                options: JobOptions::default(),
            },
            ClientMessage::Cancel { job },
            ClientMessage::Claim { job, received: 0 },
            ClientMessage::Acknowledge { job },
        ]
    }

    #[test]
    fn only_administer_implies_other_roles() {
        for role in Role::ALL {
            assert!(Roles::ALL.allow(role));
            assert!(Roles::of(Role::Administer).allow(role));
            assert_eq!(Roles::of(Role::Submit).allow(role), role == Role::Submit);
            assert_eq!(Roles::of(Role::Observe).allow(role), role == Role::Observe);
            assert_eq!(Roles::OPEN.allow(role), role != Role::Administer);
        }
        assert_eq!(Roles::ALL.to_string(), "submit,observe,administer");
        assert_eq!(format!("{:?}", Roles::OPEN), "Roles(submit,observe)");
    }

    #[test]
    fn an_observer_may_only_look_on() {
        let observer = Roles::of(Role::Observe);
        assert_eq!(observer.judge(&ClientMessage::Status), Verdict::Allowed);
        let list = ClientMessage::ListAdapters;
        assert_eq!(observer.judge(&list), Verdict::Allowed);
        for message in messages() {
            let Verdict::Forbidden(answer) = observer.judge(&message) else {
                panic!("{message:?} is not forbidden");
            };
            let WorkerMessage::Failed { job, error } = *answer else {
                panic!("{answer:?} names no job");
            };
            assert_eq!((job, error.code), ([1; 16], ErrorCode::Forbidden));
            for roles in [Role::Submit, Role::Administer].map(Roles::of) {
                assert_eq!(roles.judge(&message), Verdict::Allowed);
            }
        }
        let chunk = ClientMessage::Chunk(Chunk {
            job: [1; 16],
            tensor: 0,
            offset: 0,
            data: vec![0],
        });
        assert_eq!(observer.judge(&chunk), Verdict::Ignored);
        assert_eq!(Roles::OPEN.judge(&chunk), Verdict::Allowed);
    }
}
