//! Ends that take their time. Time is the tests' own here: it jumps whenever everybody waits.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::common::{Container, Router};

/// Says something, waits for the end, and tells what came and after how many seconds.
async fn say_and_wait(router: &Router, words: &str) -> (String, u64) {
    let mut stream = TcpStream::connect(router.address).await.unwrap();
    let begun = Instant::now();
    stream.write_all(words.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    (String::from_utf8(answer).unwrap(), begun.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn clients_that_do_not_come_to_the_point_are_cut() {
    let web = Container::saying("w").await;
    let router = Router::to(&[&web]).await;
    for words in
        ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nhost: web.te", "GET / HTTP/1.1\r\nhost: web.test\r\n"]
    {
        let (answer, seconds) = say_and_wait(&router, words).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{words:?}: {answer}");
        assert!(seconds <= 61, "{words:?}: {seconds}");
    }
    let status = router.status("nobody is left", |status| status["connections"] == 0).await;
    assert_eq!(status["requests"], 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_after_its_answer() {
    let web = Container::saying("w").await;
    let router = Router::to(&[&web]).await;
    let (answer, _) = say_and_wait(&router, "GET / HTTP/1.1\r\nhost: web.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("w GET / "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_ends_the_request_and_is_the_client_s_fault() {
    let web = Container::saying("w").await;
    let router = Router::to(&[&web]).await;
    let head = "POST / HTTP/1.1\r\nhost: web.test\r\ncontent-length: 100\r\n\r\nbegun";
    let (answer, _) = say_and_wait(&router, head).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let status = router.status("nothing is left", |status| status["services"]["p_web"]["in_flight"] == 0).await;
    assert_eq!(status["services"]["p_web"]["failed"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_never_answers_is_a_gateway_timeout() {
    let web = Container::answering("w", |_| Box::pin(std::future::pending())).await;
    let router = Router::to(&[&web]).await;
    let (answer, _) = say_and_wait(&router, "GET / HTTP/1.1\r\nhost: web.test\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("p_web did not answer in time"), "{answer}");
}

#[tokio::test]
async fn a_slow_client_is_served() {
    let web = Container::saying("w").await;
    let router = Router::to(&[&web]).await;
    let mut stream = TcpStream::connect(router.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in b"POST /slow HTTP/1.1\r\nhost: web.test\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello" {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("w POST /slow hello"), "{answer}");
}
