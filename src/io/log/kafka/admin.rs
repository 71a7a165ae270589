//! Questions about the cluster, and the making of topics.

use super::context::{Context, Reach};
use super::errors::{Meaning, code_of, configuration, meaning};
use super::properties::{self, Role};
use super::{KafkaLog, KafkaOptions};
use crate::io::log::{LogError, TopicDescription, TopicPartition};
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// One try of a question; between two the connection's errors are read.
const TRY: Duration = Duration::from_secs(1);
/// A broker with much to do tells of new topics later than it answers: so many times as long.
const TOLD_PATIENCE: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const OFFSETS: &str = "__consumer_offsets";
/// Topics of Kafka itself.
const INTERNAL: [&str; 4] = [OFFSETS, "__transaction_state", "__share_group_state", "__cluster_metadata"];

/// The role of clients that only ask.
pub(super) struct Asking;

impl ConsumerContext for Context<Asking> {}

pub(super) type Tool = BaseConsumer<Context<Asking>>;

/// Asks until there is an answer, a refusal, or `patience` is over.
pub(super) fn ask<R, T>(
    client: &BaseConsumer<Context<R>>,
    what: &str,
    patience: Duration,
    question: impl Fn(Duration) -> KafkaResult<T>,
) -> Result<T, LogError>
where
    R: Send + Sync + 'static,
    Context<R>: ConsumerContext,
{
    let reach = &client.context().reach;
    let start = Instant::now();
    loop {
        let error = match question(TRY.min(patience)) {
            Ok(answer) => {
                reach.answered();
                return Ok(answer);
            }
            Err(error) => error,
        };
        match meaning(code_of(&error)) {
            Meaning::Missing => return Err(LogError::NoTopic(what.to_owned())),
            Meaning::Refused => return Err(LogError::Refused(format!("{what}: {error}"))),
            _ => {}
        }
        if let Some(refused) = reach.refusal() {
            return Err(refused);
        }
        if start.elapsed() + RETRY_PAUSE >= patience {
            return Err(unavailable(reach, what, &error));
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}

/// As `ask`, and reads what librdkafka tells on the side: for clients without callbacks that matter.
fn ask_tool<T>(
    tool: &Tool,
    what: &str,
    patience: Duration,
    question: impl Fn(Duration) -> KafkaResult<T>,
) -> Result<T, LogError> {
    ask(tool, what, patience, |timeout| {
        let answer = question(timeout);
        for _ in 0..32 {
            // Errors come by the context.
            drop(tool.poll(Duration::ZERO));
        }
        answer
    })
}

pub(super) fn tool(options: &KafkaOptions, reach: &Arc<Reach>) -> Result<Tool, LogError> {
    let config = properties::of(Role::Tool, options);
    config.create_with_context(Context::new(reach, Asking)).map_err(|e| configuration(&e))
}

/// Where partitions end for this client: behind the last stable record for one that reads committed, behind the last one for a tool.
pub(super) fn ends<R>(
    client: &BaseConsumer<Context<R>>,
    of: &[TopicPartition],
    patience: Duration,
) -> Result<BTreeMap<TopicPartition, i64>, LogError>
where
    R: Send + Sync + 'static,
    Context<R>: ConsumerContext,
{
    if of.is_empty() {
        return Ok(BTreeMap::new());
    }
    let answer = ask(client, "the ends of partitions", patience, |timeout| {
        let mut list = TopicPartitionList::with_capacity(of.len());
        for at in of {
            // One question for all partitions of a broker; this time means the end.
            list.add_partition_offset(&at.topic, at.partition, Offset::End)?;
        }
        let list = client.offsets_for_times(list, timeout)?;
        let failed = list.elements().iter().find_map(|element| Some((element.error().err()?, element.topic().to_owned())));
        match failed {
            Some((error, topic)) if meaning(code_of(&error)) == Meaning::Missing => Ok(Err(topic)),
            Some((error, _)) => Err(error),
            None => Ok(Ok(list)),
        }
    })?;
    let answer = answer.map_err(LogError::NoTopic)?;
    told_offsets(&answer, of)
        .map(|(at, offset)| offset.map(|offset| (at, offset)))
        .collect::<Option<_>>()
        .ok_or_else(|| LogError::Unavailable("the ends of partitions: an answer without some of them".into()))
}

/// Where the brokers keep the offsets of a group, by their rule.
pub(super) fn offsets_partition(tool: &Tool, group: &str, patience: Duration) -> Result<TopicPartition, LogError> {
    let metadata = ask_tool(tool, OFFSETS, patience, |timeout| tool.fetch_metadata(Some(OFFSETS), timeout))?;
    let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len() as i32);
    // `String.hashCode` of Java, without its sign.
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    let partition = (hash & i32::MAX).checked_rem(count).ok_or_else(|| LogError::NoTopic(OFFSETS.to_owned()))?;
    Ok(TopicPartition::new(OFFSETS, partition))
}

fn told_offsets<'a>(
    answer: &'a TopicPartitionList,
    of: &'a [TopicPartition],
) -> impl Iterator<Item = (TopicPartition, Option<i64>)> + 'a {
    let told = answer.elements();
    of.iter().map(move |at| {
        let element = told.iter().find(|element| element.topic() == &*at.topic && element.partition() == at.partition);
        let offset = element.and_then(|element| if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None });
        (at.clone(), offset)
    })
}

pub(super) fn cluster_id(tool: &Tool, patience: Duration) -> Result<String, LogError> {
    ask_tool(tool, "the cluster's id", patience, |timeout| {
        let id = tool.client().fetch_cluster_id(timeout);
        id.ok_or(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut))
    })
}

fn metadata(log: &KafkaLog) -> Result<Metadata, LogError> {
    ask_tool(&log.tool, "the list of topics", log.options.answer_timeout(), |timeout| log.tool.fetch_metadata(None, timeout))
}

/// Topics that exist and can be used, with their partition counts.
fn present(metadata: &Metadata) -> impl Iterator<Item = (&str, i32, i32)> {
    metadata.topics().iter().filter(|topic| topic.error().is_none() && !INTERNAL.contains(&topic.name())).map(|topic| {
        let replicas = topic.partitions().first().map_or(0, |partition| partition.replicas().len());
        (topic.name(), topic.partitions().len() as i32, replicas as i32)
    })
}

pub(super) fn require_topics(log: &KafkaLog, topics: &[String]) -> Result<(), LogError> {
    let metadata = metadata(log)?;
    let there: BTreeSet<&str> = present(&metadata).map(|(name, ..)| name).collect();
    match topics.iter().find(|topic| !there.contains(topic.as_str())) {
        Some(missing) => Err(LogError::NoTopic(missing.clone())),
        None => Ok(()),
    }
}

pub(super) fn topics(log: &KafkaLog, with_settings: &[String]) -> Result<Vec<TopicDescription>, LogError> {
    let metadata = metadata(log)?;
    let there: BTreeSet<&str> = present(&metadata).map(|(name, ..)| name).collect();
    let wanted: Vec<&str> = with_settings.iter().map(String::as_str).filter(|name| there.contains(name)).collect();
    let mut settings = settings(log, &wanted)?;
    let mut topics: Vec<TopicDescription> = present(&metadata)
        .map(|(name, partitions, replication)| TopicDescription {
            name: name.to_owned(),
            partitions,
            replication: Some(replication),
            settings: settings.remove(name).unwrap_or_default(),
        })
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(topics)
}

/// The settings in force of each topic, defaults among them.
fn settings(log: &KafkaLog, topics: &[&str]) -> Result<BTreeMap<String, BTreeMap<String, String>>, LogError> {
    let mut all = BTreeMap::new();
    if topics.is_empty() {
        return Ok(all);
    }
    let client = admin_client(log)?;
    let options = AdminOptions::new().request_timeout(Some(log.options.answer_timeout()));
    let resources: Vec<ResourceSpecifier<'_>> = topics.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let answers =
        wait_for(client.describe_configs(&resources, &options)).map_err(|e| failed(log, "the settings of topics", &e))?;
    for answer in answers {
        let resource = answer.map_err(|code| failed(log, "the settings of topics", &KafkaError::AdminOp(code)))?;
        if let OwnedResourceSpecifier::Topic(name) = resource.specifier {
            all.insert(name, resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect());
        }
    }
    Ok(all)
}

/// Makes the topics and waits until brokers tell of them.
pub(super) fn create_topics(log: &KafkaLog, topics: &[TopicDescription]) -> Result<(), LogError> {
    if topics.is_empty() {
        return Ok(());
    }
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|topic| {
            let replication = TopicReplication::Fixed(topic.replication.unwrap_or(-1));
            let new = NewTopic::new(&topic.name, topic.partitions, replication);
            topic.settings.iter().fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    let client = admin_client(log)?;
    let timeout = Some(log.options.answer_timeout());
    let options = AdminOptions::new().request_timeout(timeout).operation_timeout(timeout);
    for answer in wait_for(client.create_topics(&new, &options)).map_err(|e| failed(log, "making topics", &e))? {
        match answer {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(failed(log, &format!("making topic {name}"), &KafkaError::AdminOp(code))),
        }
    }
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let (start, patience) = (Instant::now(), log.options.answer_timeout() * TOLD_PATIENCE);
    loop {
        match require_topics(log, &names) {
            Err(LogError::NoTopic(_)) if start.elapsed() < patience => std::thread::sleep(RETRY_PAUSE),
            Err(LogError::NoTopic(topic)) => {
                return Err(LogError::Unavailable(format!(
                    "the topics are made, but after {} s no broker tells of {topic}; `smartrouter topics check` says when they are there",
                    patience.as_secs()
                )));
            }
            outcome => return outcome,
        }
    }
}

pub(super) fn group_offsets(
    log: &KafkaLog,
    group: &str,
    of: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Option<i64>>, LogError> {
    let config = properties::of(Role::GroupTool { group }, &log.options);
    let client: Tool = config.create_with_context(Context::new(&log.reach, Asking)).map_err(|e| configuration(&e))?;
    committed(&client, of, log.options.answer_timeout())
}

/// The group's committed offsets. A client that reads committed records only also waits for offsets in open transactions.
pub(super) fn committed<R>(
    client: &BaseConsumer<Context<R>>,
    of: &[TopicPartition],
    patience: Duration,
) -> Result<BTreeMap<TopicPartition, Option<i64>>, LogError>
where
    R: Send + Sync + 'static,
    Context<R>: ConsumerContext,
{
    if of.is_empty() {
        return Ok(BTreeMap::new());
    }
    let answer = ask(client, "the group's offsets", patience, |timeout| {
        let mut list = TopicPartitionList::with_capacity(of.len());
        for at in of {
            list.add_partition(&at.topic, at.partition);
        }
        let list = client.committed_offsets(list, timeout)?;
        // One partition whose transaction is open makes the whole answer unusable.
        list.elements().iter().try_for_each(rdkafka::topic_partition_list::TopicPartitionListElem::error)?;
        Ok(list)
    })?;
    Ok(told_offsets(&answer, of).collect())
}

fn admin_client(log: &KafkaLog) -> Result<AdminClient<Context<Asking>>, LogError> {
    let config = properties::of(Role::Tool, &log.options);
    config.create_with_context(Context::new(&log.reach, Asking)).map_err(|e| configuration(&e))
}

fn failed(log: &KafkaLog, what: &str, error: &KafkaError) -> LogError {
    match meaning(code_of(error)) {
        Meaning::Missing => LogError::NoTopic(what.to_owned()),
        Meaning::Refused | Meaning::Unwritable => LogError::Refused(format!("{what}: {error}")),
        _ => unavailable(&log.reach, what, error),
    }
}

fn unavailable(reach: &Reach, what: &str, error: &KafkaError) -> LogError {
    match reach.unavailable(what) {
        LogError::Unavailable(text) => LogError::Unavailable(format!("{text}: {error}")),
        refused => refused,
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for an answer of rdkafka's admin client, whose futures a thread of its own completes.
fn wait_for<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
