//! Keeps a connection's subscriptions as listeners want them.

use std::collections::HashSet;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};

use super::link::{Duty, Link, Live};
use super::topic::Topic;

/// Subscribes to what is listened to and not yet subscribed, and the reverse.
pub(super) async fn subscribe(link: &Link, live: &Live, subscribed: &mut HashSet<String>) {
    if link.duty == Duty::Commands {
        return;
    }
    let topics = topics_of(link, subscribed);
    let fresh: Vec<&Arc<Topic>> = topics
        .iter()
        .filter(|topic| topic.has_listeners() && !subscribed.contains(topic.channel()))
        .collect();
    let mut connection = live.connection.clone();
    if !live.sharded && !fresh.is_empty() {
        let channels: Vec<&str> = fresh.iter().map(|topic| topic.channel()).collect();
        let answer = connection.subscribe(&channels).await;
        if settled(link, live, answer) == Settled::Stands {
            for topic in fresh {
                begin(topic, subscribed);
            }
        }
    } else {
        // One slot a command.
        for topic in fresh {
            let answer = by_slot(&mut connection, "SSUBSCRIBE", topic.channel()).await;
            match settled(link, live, answer) {
                Settled::Stands => begin(topic, subscribed),
                Settled::TurnedAway => {}
                Settled::Gone => return,
            }
        }
    }
    unsubscribe(link, live, &topics, subscribed).await;
}

/// What is subscribed or may be, without what nobody holds but the link.
fn topics_of(link: &Link, subscribed: &HashSet<String>) -> Vec<Arc<Topic>> {
    let mut topics = link.topics();
    topics.retain(|channel, topic| Arc::strong_count(topic) > 1 || subscribed.contains(channel));
    topics.values().cloned().collect()
}

fn begin(topic: &Topic, subscribed: &mut HashSet<String>) {
    subscribed.insert(topic.channel().to_owned());
    topic.ready();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// Wake-ups flow, or never will: without them followers wait for timers.
    Stands,
    /// The slot is another node's.
    TurnedAway,
    /// The connection is lost.
    Gone,
}

fn settled(link: &Link, live: &Live, answer: Result<(), RedisError>) -> Settled {
    let Err(error) = answer else {
        return Settled::Stands;
    };
    let trouble = link.failed(live, &error);
    if !link.state.borrow().is_up(live.generation) {
        return Settled::Gone;
    }
    if trouble.turn.is_some() {
        link.troubled();
        return Settled::TurnedAway;
    }
    tracing::warn!(store = %live.name, error = %trouble.error, "Redis sends no wake-ups");
    Settled::Stands
}

async fn unsubscribe(
    link: &Link,
    live: &Live,
    topics: &[Arc<Topic>],
    subscribed: &mut HashSet<String>,
) {
    let unheard = |channel: &&String| {
        let topic = topics.iter().find(|topic| topic.channel() == *channel);
        // One that another link has taken over is not for this one to mark.
        topic.is_none_or(|topic| topic.rest_if_unheard())
    };
    let left: Vec<String> = subscribed.iter().filter(unheard).cloned().collect();
    if left.is_empty() {
        return;
    }
    for channel in &left {
        subscribed.remove(channel);
    }
    let mut connection = live.connection.clone();
    if !live.sharded {
        if let Err(error) = connection.unsubscribe(&left).await {
            link.failed(live, &error);
        }
        return;
    }
    for channel in left {
        link.parting().insert(channel.clone());
        let answer = by_slot(&mut connection, "SUNSUBSCRIBE", &channel).await;
        link.parting().remove(&channel);
        if let Err(error) = answer {
            link.failed(live, &error);
        }
    }
}

async fn by_slot(
    connection: &mut MultiplexedConnection,
    command: &str,
    channel: &str,
) -> Result<(), RedisError> {
    let mut request = redis::cmd(command);
    request.arg(channel);
    let answer = connection.send_packed_command(&request).await;
    answer.and_then(Value::extract_error).map(drop)
}
