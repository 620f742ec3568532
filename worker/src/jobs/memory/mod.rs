//! A store in this process's memory: events and results end with it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ovis_protocol::limits::MAX_TENSOR_BYTES;
use uuid::Uuid;

use super::event::Event;
use super::id::{ClientId, JobKey, OwnerNumber};
use super::mailbox::Mailbox;
use super::owner::{Owner, OwnerId};
use super::quota::Quota;
use super::store::{Attached, Delivered, Found, JobStore, Kept, NewJob, Swept, Wake};

/// Keeps a mailbox for each owner, and all mailboxes within one quota.
pub struct MemoryStore {
    quota: Arc<Quota>,
    /// Most bytes of one owner's results.
    per_owner: u64,
    maps: Mutex<Maps>,
}

#[derive(Default)]
struct Maps {
    next: OwnerNumber,
    mailboxes: HashMap<OwnerNumber, Arc<Mailbox>>,
    /// The numbers of owners with a secret.
    lasting: HashMap<OwnerId, OwnerNumber>,
    clients: HashMap<ClientId, OwnerNumber>,
}

impl MemoryStore {
    /// An empty store. Results, previews and states of all owners take at most `bytes`, and
    /// results of one owner at most [`MAX_TENSOR_BYTES`].
    pub fn new(bytes: u64) -> Self {
        Self {
            quota: Quota::new(bytes),
            per_owner: MAX_TENSOR_BYTES,
            maps: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_client(&self, client: ClientId) -> Option<Arc<Mailbox>> {
        let maps = self.lock();
        maps.mailboxes.get(maps.clients.get(&client)?).cloned()
    }

    fn of_owner(&self, owner: OwnerNumber) -> Option<Arc<Mailbox>> {
        self.lock().mailboxes.get(&owner).cloned()
    }

    fn all(&self) -> Vec<Arc<Mailbox>> {
        self.lock().mailboxes.values().cloned().collect()
    }
}

impl Maps {
    /// Forgets owners that have neither connections nor jobs.
    fn forget_unused(&mut self) {
        let mailboxes = &mut self.mailboxes;
        mailboxes.retain(|_, mailbox| !mailbox.is_unused());
        self.lasting
            .retain(|_, number| mailboxes.contains_key(number));
    }
}

impl JobStore for MemoryStore {
    fn attach(&self, owner: &Owner, client: Option<(ClientId, Arc<Wake>)>) -> Attached {
        let mut maps = self.lock();
        let known = match owner.is_lasting {
            true => maps.lasting.get(&owner.id).copied(),
            false => None,
        };
        let number = known.unwrap_or_else(|| {
            let number = maps.next;
            maps.next += 1;
            let mailbox = Mailbox::new(number, owner, &self.quota, self.per_owner);
            maps.mailboxes.insert(number, mailbox);
            if owner.is_lasting {
                maps.lasting.insert(owner.id, number);
            }
            number
        });
        let mailbox = maps.mailboxes[&number].clone();
        if let Some((client, wake)) = client {
            maps.clients.insert(client, number);
            mailbox.attach(client, wake);
        }
        Attached {
            owner: number,
            open: mailbox.open.clone(),
        }
    }

    fn detach(&self, client: ClientId) {
        let mut maps = self.lock();
        let Some(owner) = maps.clients.remove(&client) else {
            return;
        };
        if let Some(mailbox) = maps.mailboxes.get(&owner) {
            mailbox.detach(client);
        }
        maps.forget_unused();
    }

    fn close(&self, client: ClientId) {
        if let Some(mailbox) = self.of_client(client) {
            mailbox.close(client);
        }
    }

    fn put(&self, job: JobKey, new: NewJob) {
        if let Some(mailbox) = self.of_owner(job.owner) {
            mailbox.put(job.number, new);
        }
    }

    fn append(&self, job: JobKey, event: Event) {
        if let Some(mailbox) = self.of_owner(job.owner) {
            mailbox.append(job.number, event);
        }
    }

    fn next(&self, client: ClientId, before: Option<u64>) -> Option<Delivered> {
        self.of_client(client)?.next(client, before)
    }

    fn read(&self, client: ClientId, job: JobKey, values: Range<usize>) -> Option<Vec<u8>> {
        self.of_owner(job.owner)?.read(client, job.number, values)
    }

    fn find(&self, client: ClientId, id: Uuid) -> Option<Found> {
        self.of_client(client)?.find(client, id)
    }

    fn claim(&self, client: ClientId, job: JobKey, skip: usize) {
        if let Some(mailbox) = self.of_owner(job.owner) {
            mailbox.claim(client, job.number, skip);
        }
    }

    fn acknowledge(&self, client: ClientId, id: Uuid) -> Option<OwnerId> {
        self.of_client(client)?.acknowledge(id)
    }

    fn note_read(&self, client: ClientId) {
        if let Some(mailbox) = self.of_client(client) {
            mailbox.note_read();
        }
    }

    fn sweep(&self, now: Instant, keep: Duration) -> Swept {
        let mut swept = Swept::default();
        for mailbox in self.all() {
            mailbox.sweep(now, keep, &mut swept);
        }
        self.lock().forget_unused();
        swept
    }

    fn kept(&self) -> Kept {
        let counts = self.all().into_iter().map(|mailbox| mailbox.counts());
        let (ended, away) = counts.fold((0, 0), |(ended, away), (e, is_away)| {
            (ended + e, away + usize::from(is_away))
        });
        Kept {
            bytes: self.quota.used(),
            limit: self.quota.most(),
            ended,
            away,
        }
    }
}

#[cfg(test)]
mod tests;
