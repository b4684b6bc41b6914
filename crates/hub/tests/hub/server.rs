//! A server of HTTP/1.1 that answers as a test says, one request per connection, and remembers what it was asked.

use remat_hub::{Hub, Kind, Progress, Repository};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What came.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

/// What goes back.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub cut: Option<usize>,
    /// The body is sent again and again, without a length.
    pub endless: bool,
}

impl Answer {
    pub fn ok(body: impl Into<Vec<u8>>) -> Answer {
        Answer { status: 200, body: body.into(), ..Answer::default() }
    }

    pub fn status(status: u16) -> Answer {
        Answer { status, ..Answer::default() }
    }

    pub fn redirect(to: String) -> Answer {
        Answer { status: 302, headers: vec![("Location", to)], ..Answer::default() }
    }

    /// The file, or what the request's range asks of it.
    pub fn file(bytes: &[u8], request: &Request) -> Answer {
        let start = request.range.as_deref().map(|range| range.trim_start_matches("bytes=").trim_end_matches('-'));
        let Some(start) = start.and_then(|start| start.parse::<usize>().ok()) else { return Answer::ok(bytes) };
        let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        Answer {
            status: 206,
            headers: vec![("Content-Range", range)],
            body: bytes[start..].to_vec(),
            ..Answer::default()
        }
    }
}

type Respond = dyn Fn(&Request, usize) -> Answer + Send + Sync;

pub struct Server {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers with `respond`, which is told how many requests came before. Its thread ends with the process.
    pub fn start(respond: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, respond): (_, Arc<Respond>) = (Arc::clone(&requests), Arc::new(respond));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who was served goes away when it likes.
                drop(serve(stream, &seen, &*respond));
            }
        });
        Server { url, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Request>>, respond: &Respond) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut request = Request { path: first.split(' ').nth(1).unwrap_or_default().to_string(), ..Request::default() };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.to_string()),
            "authorization" => request.authorization = Some(value.to_string()),
            _ => {}
        }
    }
    let before = {
        let mut seen = seen.lock().expect("no panic");
        seen.push(request.clone());
        seen.len() - 1
    };
    let answer = respond(&request, before);
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {} x\r\nConnection: close\r\n", answer.status)?;
    for (name, value) in &answer.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    if answer.endless {
        write!(stream, "\r\n")?;
        loop {
            stream.write_all(&answer.body)?;
        }
    }
    write!(stream, "Content-Length: {}\r\n\r\n", answer.body.len())?;
    stream.write_all(&answer.body[..answer.cut.unwrap_or(answer.body.len())])
}

/// A file of a listing: large ones with SHA-256, small ones with Git's hash.
pub fn listed(path: &str, bytes: &[u8], large: bool) -> String {
    let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let git = hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize());
    let size = bytes.len();
    let lfs = if large {
        format!(", \"lfs\": {{\"sha256\": \"{}\", \"size\": {size}}}", hex(&Sha256::digest(bytes)))
    } else {
        String::new()
    };
    format!("{{\"rfilename\": \"{path}\", \"size\": {size}, \"blobId\": \"{git}\"{lfs}}}")
}

pub fn listing(files: &[String]) -> Answer {
    Answer::ok(format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", files.join(", ")))
}

/// The Hub at a server, with a cache in a folder and more variables.
pub fn hub(server: &Server, cache: &Path, more: &[(&str, &str)]) -> Hub {
    let variables = |key: &str| match key {
        "HF_ENDPOINT" => Some(server.url.clone()),
        "HF_HOME" => Some(cache.display().to_string()),
        key => more.iter().find(|(known, _)| *known == key).map(|(_, value)| value.to_string()),
    };
    Hub::from_variables(&variables).expect("sense")
}

pub fn model() -> Repository {
    Repository::named(Kind::Model, "org/name").expect("a name")
}

pub fn rows() -> Repository {
    Repository::named(Kind::Dataset, "org/rows").expect("a name")
}

pub fn quiet(_: Progress<'_>) {}
