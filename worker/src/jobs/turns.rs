//! Turns: members with waiting jobs are served one after the other, one job each.
//!
//! A member that has been served goes to the end of the line, so between two turns of one
//! member every other that waits all the time has exactly one. A newcomer is ahead of the
//! member that was served last, which has only just had its turn, and behind all others. A
//! member that leaves and returns is a newcomer: it was ahead of everybody who has been served
//! since, and is now behind them, so leaving gains nothing. For that reason nothing needs to be
//! remembered about members without jobs.
//!
//! A member whose jobs did not fit keeps its place, but does not make up for the turns that
//! others had meanwhile: a newcomer would have to wait for them.

/// What takes turns.
pub(super) trait Member {
    /// Whether it has a job that waits for its turn.
    fn waits(&self) -> bool;

    /// Whether it has neither a waiting job nor a reserved place, so that it can be forgotten.
    fn is_empty(&self) -> bool;
}

/// The members, in the order of their next turns.
pub(super) struct Turns<M> {
    /// Those with waiting jobs, the next one first.
    line: Vec<M>,
    /// Those with reserved places only.
    idle: Vec<M>,
    /// Whether the last in the line was served last of all.
    last_was_served: bool,
}

impl<M: Member> Turns<M> {
    pub fn new() -> Self {
        Self {
            line: Vec::new(),
            idle: Vec::new(),
            last_was_served: false,
        }
    }

    /// All members, those with waiting jobs first and in order.
    pub fn iter(&self) -> impl Iterator<Item = &M> {
        self.line.iter().chain(&self.idle)
    }

    /// Those with waiting jobs, in order.
    pub fn line(&self) -> impl Iterator<Item = &M> {
        self.line.iter()
    }

    /// As [`line`](Self::line), to change what does not end their waiting.
    pub fn line_mut(&mut self) -> impl Iterator<Item = &mut M> {
        self.line.iter_mut()
    }

    /// Number of members.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.line.len() + self.idle.len()
    }

    /// Changes the member that `is_it`, or one that `make` creates. It keeps its turn if it has
    /// waiting jobs before and after, and is forgotten if it is empty.
    pub fn change(
        &mut self,
        is_it: impl Fn(&M) -> bool,
        make: impl FnOnce() -> M,
        change: impl FnOnce(&mut M),
    ) {
        if let Some(at) = self.line.iter().position(&is_it) {
            change(&mut self.line[at]);
            return self.settle();
        }
        let idle = self.idle.iter().position(is_it);
        let mut member = idle.map_or_else(make, |at| self.idle.swap_remove(at));
        change(&mut member);
        if member.waits() {
            let end = self.line.len() - usize::from(self.last_was_served);
            self.line.insert(end, member);
        } else if !member.is_empty() {
            self.idle.push(member);
        }
    }

    /// Changes every member. Each keeps its turn while it has waiting jobs.
    pub fn change_all(&mut self, change: impl FnMut(&mut M)) {
        self.line.iter_mut().chain(&mut self.idle).for_each(change);
        self.settle();
    }

    /// Serves the member at this position of the line, which then goes to its end.
    pub fn serve<R>(&mut self, at: usize, serve: impl FnOnce(&mut M) -> R) -> R {
        let mut member = self.line.remove(at);
        let served = serve(&mut member);
        self.last_was_served = member.waits();
        if member.waits() {
            self.line.push(member);
        } else if !member.is_empty() {
            self.idle.push(member);
        }
        served
    }

    /// Takes those out of the line that have no waiting jobs any more, and forgets the empty.
    fn settle(&mut self) {
        self.last_was_served &= self.line.last().is_some_and(Member::waits);
        let left = self.line.extract_if(.., |member| !member.waits());
        self.idle.extend(left);
        self.idle.retain(|member| !member.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member with so many waiting jobs.
    struct Named(char, usize);

    impl Member for Named {
        fn waits(&self) -> bool {
            self.1 > 0
        }

        fn is_empty(&self) -> bool {
            self.1 == 0
        }
    }

    fn add(turns: &mut Turns<Named>, name: char) {
        turns.change(|m| m.0 == name, || Named(name, 0), |m| m.1 += 1);
    }

    /// Those in the line, in order.
    fn line(turns: &Turns<Named>) -> String {
        turns.line().map(|member| member.0).collect()
    }

    fn serve(turns: &mut Turns<Named>) -> char {
        turns.serve(0, |member| {
            member.1 -= 1;
            member.0
        })
    }

    #[test]
    fn a_newcomer_is_ahead_of_the_one_served_last_only() {
        let mut turns = Turns::new();
        for name in ['a', 'a', 'b', 'b', 'c'] {
            add(&mut turns, name);
        }
        assert_eq!(serve(&mut turns), 'a');
        add(&mut turns, 'd');
        add(&mut turns, 'e');
        assert_eq!(line(&turns), "bcdea");
    }

    #[test]
    fn leaving_gains_nothing_even_within_a_turn() {
        let mut turns = Turns::new();
        add(&mut turns, 'a');
        for _ in 0..9 {
            add(&mut turns, 'b');
        }
        // Whenever `a` was served it leaves and returns at once.
        let mut served = String::new();
        for _ in 0..6 {
            let name = serve(&mut turns);
            served.push(name);
            if name == 'a' {
                add(&mut turns, 'a');
            }
        }
        assert_eq!(served, "ababab");
    }

    /// One whose jobs did not fit keeps its place ahead of those that passed it, but has no turns
    /// to make up for.
    #[test]
    fn who_was_passed_is_next_and_then_turns_alternate() {
        let mut turns = Turns::new();
        for _ in 0..9 {
            add(&mut turns, 'a');
            add(&mut turns, 'b');
        }
        for _ in 0..4 {
            turns.serve(1, |member| member.1 -= 1);
        }
        let served: String = (0..4).map(|_| serve(&mut turns)).collect();
        assert_eq!(served, "abab");
    }

    /// A member that the change of another empties must not leave a newcomer ahead of one that
    /// has waited.
    #[test]
    fn the_last_turn_is_forgotten_with_its_member() {
        let mut turns = Turns::new();
        for name in ['b', 'a', 'a'] {
            add(&mut turns, name);
        }
        serve(&mut turns);
        assert_eq!(serve(&mut turns), 'a');
        add(&mut turns, 'c');
        turns.change_all(|member| {
            if member.0 == 'a' {
                member.1 = 0;
            }
        });
        add(&mut turns, 'd');
        assert_eq!(line(&turns), "cd");
        assert_eq!(turns.len(), 2);
    }
}
