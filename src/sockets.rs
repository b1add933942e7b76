//! What every TCP connection of the data plane is set to.

use socket2::{SockRef, TcpKeepalive};
use std::{io, os::fd::AsFd, time::Duration};

/// Go's own figures, which both kubectl and kube-apiserver use.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);
pub(crate) const PROBES: u32 = 9;

/// Notices a peer that has vanished while nothing is said: a tunnel or a watch over HTTP/1.1 has no PING of its own. Set on a
/// listening socket, it holds for the connections that it accepts.
pub(crate) fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    let how = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE).with_retries(PROBES);
    SockRef::from(socket).set_tcp_keepalive(&how)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn accepted_connections_inherit_it() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        keep_alive(&listener).unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), SILENCE);
    }
}
