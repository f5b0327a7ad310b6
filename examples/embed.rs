//! A game with frames of its own, 60 in a second, in which `hotloop` is a guest: step the world,
//! broadcast its state, then one `turn` that never waits.
//! Shows that the state is encoded and stored once however many players there are, and that a
//! player who does not keep up misses frames instead of queueing them.
//!
//! Try it: `cargo run --release --example embed`, then `nc 127.0.0.1 9001` and type `l` or `r`.
//! Arguments: the address, and after how many frames to end.

use std::time::{Duration, Instant};
use std::{env, io, thread};

use hotloop::{Bytes, CloseReason, Config, ConnId, ConnMap, Handler, ListenerId, Loop, Net, Sent};

const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);

#[derive(Default)]
struct Player {
    x: i32,
    step: i32,
    /// Its queue is full: frames are left out until `on_writable`.
    behind: bool,
}

#[derive(Default)]
struct Game {
    frame: u64,
    late_frames: u64,
    players: ConnMap<Player>,
}

impl Handler for Game {
    fn on_accept(&mut self, _: &mut Net, conn: ConnId, _: ListenerId) {
        self.players.insert(conn, Player::default());
    }

    fn on_data(&mut self, _: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        if let Some(player) = self.players.get_mut(conn) {
            let key = data.iter().rfind(|key| b"lr".contains(key));
            player.step = key.map_or(player.step, |key| if *key == b'l' { -1 } else { 1 });
        }
        data.len()
    }

    fn on_writable(&mut self, _: &mut Net, conn: ConnId) {
        if let Some(player) = self.players.get_mut(conn) {
            player.behind = false;
        }
    }

    fn on_close(&mut self, _: &mut Net, conn: ConnId, reason: CloseReason, _: u64) {
        log::info!("{conn}: {reason}");
        self.players.remove(conn);
    }
}

impl Game {
    fn step(&mut self, net: &mut Net) {
        self.frame += 1;
        let mut state = format!("frame {}:", self.frame);
        for (_, player) in self.players.iter_mut() {
            player.x = (player.x + player.step).clamp(-1000, 1000);
            state += &format!(" {}", player.x);
        }
        let state = Bytes::from(state + "\n");
        for (conn, player) in self.players.iter_mut().filter(|(_, player)| !player.behind) {
            player.behind = net.write_shared(conn, state.clone()) != Sent::Queued;
        }
    }

    /// Sleeps until the next frame is due; time that was lost is not made up for.
    fn pace(&mut self, due: &mut Instant) {
        let now = Instant::now();
        self.late_frames += u64::from(*due + FRAME < now);
        *due = now.max(*due + FRAME);
        thread::sleep(*due - now);
    }
}

fn main() -> io::Result<()> {
    env_logger::init();
    let address = env::args_os().nth(1).unwrap_or_else(|| "127.0.0.1:9001".into());
    let frames = env::args_os().nth(2).map_or(Ok(u64::MAX), |text| text.to_string_lossy().parse());
    let frames = frames.map_err(|_| io::Error::other("the number of frames is no number"))?;
    let mut event_loop = Loop::new(Config::default())?;
    let listener = event_loop.net().listen(&*address.to_string_lossy())?;
    let bound = event_loop.net().listener_addr(listener).ok_or(io::ErrorKind::AddrNotAvailable)?;
    println!("listening on {bound}");
    let (mut game, mut due) = (Game::default(), Instant::now());
    while game.frame < frames {
        game.step(event_loop.net());
        event_loop.turn(&mut game, Duration::ZERO)?;
        if game.frame % 60 == 0 {
            let (frame, late, stats) = (game.frame, game.late_frames, event_loop.net().stats());
            let (players, sent, queued) = (stats.connections, stats.sent_bytes, stats.queued_bytes);
            println!("{frame}: {late} late, {players} players, {sent} bytes sent, {queued} queued");
        }
        game.pace(&mut due);
    }
    event_loop.close_all(&mut game, Duration::from_secs(1))
}
