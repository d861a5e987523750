//! etcd's calls over one connection.

use std::fmt;

use hyper::http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::rpc::{
    AuthenticateRequest, AuthenticateResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseRequest,
    LeaseResponse, LeaseRevokeResponse, RangeRequest, RangeResponse, StatusRequest, StatusResponse,
    TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};

/// One connection's calls. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

/// Without the token.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// A call's path.
fn path(name: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(name)
}

impl Client {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            token: None,
        }
    }

    /// The same, with every later call in the name of that user.
    ///
    /// # Errors
    /// What etcd refuses.
    pub(super) async fn log_in(mut self, name: &str, password: &str) -> Result<Self, Status> {
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        let answer: AuthenticateResponse = self
            .call("/etcdserverpb.Auth/Authenticate", request)
            .await?;
        let token = answer.token.parse();
        self.token = Some(token.map_err(|_| Status::internal("the token is no header value"))?);
        Ok(self)
    }

    /// Who the member is. It tells so without its cluster, too.
    pub(super) async fn status(&self) -> Result<StatusResponse, Status> {
        let request = self.signed(StatusRequest {});
        self.unary("/etcdserverpb.Maintenance/Status", request)
            .await
    }

    /// Reads, linearizably: what was acknowledged before it was asked is in it.
    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        self.call("/etcdserverpb.KV/Range", request).await
    }

    pub(super) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        self.call("/etcdserverpb.KV/Txn", request).await
    }

    pub(super) async fn grant(
        &self,
        request: LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, Status> {
        let answer: LeaseGrantResponse =
            self.call("/etcdserverpb.Lease/LeaseGrant", request).await?;
        if answer.error.is_empty() {
            return Ok(answer);
        }
        Err(Status::new(Code::Unknown, answer.error))
    }

    pub(super) async fn revoke(&self, lease: i64) -> Result<(), Status> {
        let request = LeaseRequest { id: lease };
        let _: LeaseRevokeResponse = self
            .call("/etcdserverpb.Lease/LeaseRevoke", request)
            .await?;
        Ok(())
    }

    pub(super) async fn time_to_live(&self, lease: i64) -> Result<LeaseResponse, Status> {
        let request = LeaseRequest { id: lease };
        self.call("/etcdserverpb.Lease/LeaseTimeToLive", request)
            .await
    }

    /// Keeps a lease alive once. The stream goes on with [`KeepAlive::again`].
    pub(super) async fn keep_alive(
        &self,
        lease: i64,
    ) -> Result<(KeepAlive, LeaseResponse), Status> {
        let (requests, queue) = mpsc::channel(1);
        let first = LeaseRequest { id: lease };
        // The queue is empty and open.
        let _ = requests.try_send(first);
        let answers = self
            .stream("/etcdserverpb.Lease/LeaseKeepAlive", queue)
            .await?;
        let mut stream = KeepAlive {
            lease,
            requests,
            answers,
        };
        let answer = stream.answer().await?;
        Ok((stream, answer))
    }

    /// Follows changes. The first answer says that it does.
    pub(super) async fn watch(&self, request: WatchCreateRequest) -> Result<Watch, Status> {
        let (requests, queue) = mpsc::channel(1);
        let create = WatchRequest {
            create: Some(request),
        };
        let _ = requests.try_send(create);
        let answers = self.stream("/etcdserverpb.Watch/Watch", queue).await?;
        Ok(Watch {
            _requests: requests,
            answers,
        })
    }

    /// Who asks.
    fn signed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// A member that is cut off from its cluster is to say so rather than to keep silent.
    fn needing_a_leader<T>(&self, message: T) -> Request<T> {
        let mut request = self.signed(message);
        let needed = MetadataValue::from_static("true");
        request.metadata_mut().insert("hasleader", needed);
        request
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready()
            .await
            .map_err(|error| Status::from_error(error.into()))?;
        Ok(grpc)
    }

    async fn call<Q, A>(&self, name: &'static str, message: Q) -> Result<A, Status>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        self.unary(name, self.needing_a_leader(message)).await
    }

    async fn unary<Q, A>(&self, name: &'static str, request: Request<Q>) -> Result<A, Status>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let mut grpc = self.ready().await?;
        let answer = grpc.unary(request, path(name), codec).await?;
        Ok(answer.into_inner())
    }

    async fn stream<Q, A>(
        &self,
        name: &'static str,
        queue: mpsc::Receiver<Q>,
    ) -> Result<Streaming<A>, Status>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let requests = self.needing_a_leader(ReceiverStream::new(queue));
        let answers = self
            .ready()
            .await?
            .streaming(requests, path(name), codec)
            .await?;
        Ok(answers.into_inner())
    }
}

/// An open stream of keep-alives. One is under way at a time, so that each answer is
/// the answer to the last request: an answer to an earlier one would make a lease look
/// fresh that is not. Whoever gives up waiting must drop the stream.
pub(super) struct KeepAlive {
    lease: i64,
    requests: mpsc::Sender<LeaseRequest>,
    answers: Streaming<LeaseResponse>,
}

impl KeepAlive {
    /// Keeps the lease alive once more.
    pub(super) async fn again(&mut self) -> Result<LeaseResponse, Status> {
        let request = LeaseRequest { id: self.lease };
        let sent = self.requests.send(request).await;
        sent.map_err(|_| ended())?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<LeaseResponse, Status> {
        self.answers.message().await?.ok_or_else(ended)
    }
}

/// An open watch; dropping it ends it.
pub(super) struct Watch {
    // etcd ends the stream when no more requests can come.
    _requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Watch {
    pub(super) async fn next(&mut self) -> Result<WatchResponse, Status> {
        let answer = self.answers.message().await?.ok_or_else(ended)?;
        if answer.canceled {
            return Err(Status::new(Code::Cancelled, answer.cancel_reason));
        }
        Ok(answer)
    }
}

fn ended() -> Status {
    Status::new(Code::Unavailable, "the stream was ended")
}
