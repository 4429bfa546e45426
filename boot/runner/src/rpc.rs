//! A client of a machine's JSON-RPC.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Deserializer, Value, json};

/// Where a machine takes calls unless it was told otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:5260";
const DEFAULT_PORT: u16 = 5260;
/// JSON-RPC's code for a method that is not there.
const METHOD_NOT_FOUND: i64 = -32601;
/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A connection to a machine.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
    calls: u64,
}

impl Client {
    /// Connects to `HOST:PORT`, or to port 5260 of `HOST`.
    ///
    /// # Errors
    /// There is no such host, or nothing takes calls there.
    pub fn connect(address: &str) -> anyhow::Result<Self> {
        let address = resolve(address)?;
        let stream = TcpStream::connect_timeout(&address, CONNECT_MAX).with_context(|| {
            format!(
                "nothing answers at {address}: start Basalt (`cargo run`), or give the address and \
                 port where it takes JSON-RPC calls (port {DEFAULT_PORT} unless it was changed)"
            )
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        Ok(Self { stream: BufReader::new(stream), address, calls: 0 })
    }

    /// The machine's address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls a method; `params` of null are left out.
    ///
    /// # Errors
    /// The machine is gone, what answers is none, or it refuses the call.
    pub fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.calls += 1;
        let mut call = json!({"jsonrpc": "2.0", "id": self.calls, "method": method});
        if !params.is_null() {
            call["params"] = params;
        }
        let address = self.address;
        let sent = self.stream.get_mut().write_all(call.to_string().as_bytes());
        sent.with_context(|| format!("{address} does not take calls any more"))?;
        let mut answer = self.read()?;
        if let Some(error) = answer.get("error") {
            bail!("{address} refuses {method}: {}", explain(error));
        }
        match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => bail!("{address} answers {method} with no result: {answer}"),
        }
    }

    fn read(&mut self) -> anyhow::Result<Value> {
        let address = self.address;
        let mut answers = Deserializer::from_reader(&mut self.stream).into_iter::<Value>();
        match answers.next() {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) if !error.is_io() && !error.is_eof() => bail!(
                "what answers at {address} does not speak JSON-RPC: is that the right port (4420 \
                 is NVMe/TCP, {DEFAULT_PORT} JSON-RPC)?"
            ),
            ended => {
                let why = ended.and_then(Result::err).map(|error| format!(": {error}"));
                bail!(
                    "{address} has gone without an answer{}; has it been stopped, does it turn us \
                     away (rpc_set_listener), or is the port that of something else (4420 is \
                     NVMe/TCP, {DEFAULT_PORT} JSON-RPC)?",
                    why.unwrap_or_default()
                )
            }
        }
    }
}

fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let found = match address.to_socket_addrs() {
        Ok(mut found) => found.next(),
        Err(_) => (address, DEFAULT_PORT)
            .to_socket_addrs()
            .with_context(|| format!("{address}: no such host; give HOST or HOST:PORT"))?
            .next(),
    };
    found.with_context(|| format!("{address}: the host has no address"))
}

/// What an error of JSON-RPC says.
fn explain(error: &Value) -> String {
    let message = error["message"].as_str().unwrap_or("it does not say why");
    match error["code"].as_i64() {
        Some(METHOD_NOT_FOUND) => {
            format!("{message}: the machine runs an older Basalt, or something else")
        }
        Some(code) => format!("{message} ({code})"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that answers its only call with `answer`.
    fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    fn complaint(answer: &'static str) -> String {
        let mut client = Client::connect(&server(answer)).unwrap();
        format!("{:#}", client.call("a_method", Value::Null).unwrap_err())
    }

    #[test]
    fn the_result_of_a_call_is_given() {
        let mut client = Client::connect(&server("{\"id\": 1,\n \"result\": [1]}")).unwrap();
        assert_eq!(client.call("a_method", json!({"a": 1})).unwrap(), json!([1]));
    }

    #[test]
    fn what_goes_wrong_is_told_with_a_remedy() {
        let refused = complaint(r#"{"id": 1, "error": {"code": -19, "message": "No such bdev"}}"#);
        assert!(refused.ends_with("refuses a_method: No such bdev (-19)"), "{refused}");
        let old = complaint(r#"{"id": 1, "error": {"code": -32601, "message": "Not found"}}"#);
        assert!(old.contains("older Basalt"), "{old}");
        assert!(complaint("HTTP/1.1 400 Bad Request").contains("right port"));
        assert!(complaint("").contains("gone without an answer"));
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let nobody = format!("{:#}", Client::connect(&nobody).unwrap_err());
        assert!(nobody.contains("nothing answers") && nobody.contains("5260"), "{nobody}");
        assert!(Client::connect("no.such.host.invalid").is_err());
    }

    #[test]
    fn a_host_alone_is_taken_with_the_usual_port() {
        assert_eq!(resolve("127.0.0.1").unwrap(), ([127, 0, 0, 1], 5260).into());
        assert_eq!(resolve("127.0.0.1:99").unwrap(), ([127, 0, 0, 1], 99).into());
        assert_eq!(resolve("[::1]:99").unwrap().port(), 99);
        assert_eq!(resolve("::1").unwrap().port(), 5260);
    }
}
