//! The counters as people read them.

use std::fmt;

use crate::stats::{ConnStats, LoopStats};

/// A block of aligned lines, always the same ones in the same order, without a newline at the end.
impl fmt::Display for LoopStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_turns(f)?;
        self.fmt_connections(f)?;
        self.fmt_bytes(f)
    }
}

impl LoopStats {
    fn fmt_turns(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { turns, empty_turns, sleeps, asleep, events, stale_events, .. } = self;
        let Self { timers, timers_fired, wakes, .. } = self;
        writeln!(f, "turns        {turns}; {empty_turns} empty, {sleeps} sleeps, {asleep:.3?}")?;
        writeln!(f, "events       {events}; {stale_events} stale, {wakes} wakes")?;
        writeln!(f, "timers       {timers}; {timers_fired} fired")
    }

    fn fmt_connections(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, accepted, connects, adopted, closed, closes, .. } = self;
        let Self { listeners, paused_listeners, accept_errors, accept_pauses, .. } = self;
        writeln!(
            f,
            "connections  {connections}; {accepted} accepted, {connects} connects, {adopted} \
             adopted, {closed} closed"
        )?;
        writeln!(f, "closed       {closes}")?;
        writeln!(
            f,
            "listeners    {listeners}; {paused_listeners} paused, {accept_pauses} pauses, \
             {accept_errors} errors"
        )
    }

    fn fmt_bytes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received_bytes, receives, discarded_bytes, pauses, .. } = self;
        let Self { accepted_bytes, sent_bytes, sends, queued_bytes, dropped_bytes, .. } = self;
        let Self { pressures, refused_writes, buffered_bytes, pooled_bytes, .. } = self;
        writeln!(
            f,
            "input        {received_bytes} B in {receives} receives; {discarded_bytes} B \
             discarded, {pauses} pauses"
        )?;
        writeln!(
            f,
            "output       {accepted_bytes} B; {sent_bytes} B in {sends} sends, {queued_bytes} B \
             queued, {dropped_bytes} B dropped"
        )?;
        writeln!(f, "pressure     {pressures} times; {refused_writes} refused writes")?;
        write!(f, "buffers      {buffered_bytes} B in use, {pooled_bytes} B pooled")
    }
}

/// One line.
impl fmt::Display for ConnStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received_bytes, receives, kept_bytes, pauses, age, idle, .. } = self;
        let Self { accepted_bytes, sent_bytes, sends, dropped_bytes, .. } = self;
        let Self { queued_bytes, queued_cost, queued_cost_max, pressures, refused_writes, .. } =
            self;
        write!(f, "in {received_bytes} B in {receives} receives, {kept_bytes} B kept, ")?;
        write!(f, "{pauses} pauses; out {accepted_bytes} B, {sent_bytes} B in {sends} sends, ")?;
        write!(f, "{queued_bytes} B queued (cost {queued_cost}, at most {queued_cost_max}), ")?;
        write!(f, "{dropped_bytes} B dropped, {pressures} times under pressure, ")?;
        write!(f, "{refused_writes} refused writes; age {age:.3?}, idle {idle:.3?}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::{CloseReason, TimeoutKind};
    use crate::stats::ClosesByReason;

    /// Every field has a value of its own.
    fn filled() -> LoopStats {
        let mut closes = ClosesByReason::default();
        closes.add(CloseReason::Reset);
        closes.add(CloseReason::Timeout(TimeoutKind::Idle));
        LoopStats {
            turns: 101,
            empty_turns: 102,
            sleeps: 103,
            asleep: Duration::from_micros(1_234_567),
            events: 104,
            stale_events: 105,
            accepted: 106,
            accept_errors: 107,
            accept_pauses: 108,
            connects: 109,
            adopted: 130,
            closed: 110,
            closes,
            timers_fired: 111,
            wakes: 112,
            receives: 113,
            received_bytes: 114,
            pauses: 115,
            sends: 116,
            accepted_bytes: 117,
            sent_bytes: 118,
            dropped_bytes: 119,
            discarded_bytes: 120,
            pressures: 121,
            refused_writes: 122,
            queued_bytes: 123,
            buffered_bytes: 124,
            connections: 125,
            listeners: 126,
            paused_listeners: 127,
            timers: 128,
            pooled_bytes: 129,
        }
    }

    #[test]
    fn a_loop_is_a_block_of_lines() {
        let expected = "\
turns        101; 102 empty, 103 sleeps, 1.235s
events       104; 105 stale, 112 wakes
timers       128; 111 fired
connections  125; 106 accepted, 109 connects, 130 adopted, 110 closed
closed       1 reset, 1 timeout_idle
listeners    126; 127 paused, 108 pauses, 107 errors
input        114 B in 113 receives; 120 B discarded, 115 pauses
output       117 B; 118 B in 116 sends, 123 B queued, 119 B dropped
pressure     121 times; 122 refused writes
buffers      124 B in use, 129 B pooled";
        assert_eq!(filled().to_string(), expected);
    }

    #[test]
    fn a_connection_is_one_line() {
        let stats = ConnStats {
            received_bytes: 101,
            receives: 102,
            accepted_bytes: 103,
            sent_bytes: 104,
            sends: 105,
            dropped_bytes: 106,
            queued_bytes: 107,
            queued_cost: 108,
            queued_cost_max: 109,
            pressures: 110,
            refused_writes: 111,
            pauses: 112,
            kept_bytes: 113,
            age: Duration::from_millis(61_500),
            idle: Duration::from_micros(2_500),
        };
        let expected = "in 101 B in 102 receives, 113 B kept, 112 pauses; \
                        out 103 B, 104 B in 105 sends, 107 B queued (cost 108, at most 109), \
                        106 B dropped, 110 times under pressure, 111 refused writes; \
                        age 61.500s, idle 2.500ms";
        assert_eq!(stats.to_string(), expected);
    }

    #[test]
    fn since_subtracts_counters_and_leaves_gauges() {
        let (earlier, mut later) = (filled(), filled());
        assert_eq!(earlier.since(&LoopStats::default()), earlier);
        later.turns += 7;
        later.asleep += Duration::from_nanos(3);
        later.closes.add(CloseReason::Reset);
        later.connections = 1;
        let mut expected = LoopStats { turns: 7, connections: 1, ..LoopStats::default() };
        expected.asleep = Duration::from_nanos(3);
        expected.closes.add(CloseReason::Reset);
        expected.queued_bytes = earlier.queued_bytes;
        expected.buffered_bytes = earlier.buffered_bytes;
        expected.listeners = earlier.listeners;
        expected.paused_listeners = earlier.paused_listeners;
        expected.timers = earlier.timers;
        expected.pooled_bytes = earlier.pooled_bytes;
        assert_eq!(later.since(&earlier), expected);
    }
}
