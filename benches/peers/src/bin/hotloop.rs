//! hotloop's echo, as its users write it. `HOTLOOP_BACKEND` chooses what it runs on.

use hotloop::{Config, ConnId, Handler, Loop, Net, Sent};
use hotloop_peers::{listen_addr, say_ready};

struct Echo;

impl Handler for Echo {
    fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
        match net.write(conn, data) {
            Sent::Queued => data.len(),
            Sent::Pressured => {
                net.pause_reading(conn);
                data.len()
            }
            Sent::Refused => {
                net.pause_reading(conn);
                0
            }
            Sent::Closed => 0,
        }
    }

    fn on_writable(&mut self, net: &mut Net, conn: ConnId) {
        net.resume_reading(conn);
    }
}

fn main() -> std::io::Result<()> {
    let mut event_loop = Loop::new(Config::default())?;
    let net = event_loop.net();
    let listener = net.listen(listen_addr())?;
    say_ready(net.listener_addr(listener).expect("it was just opened"));
    event_loop.run(&mut Echo)
}
