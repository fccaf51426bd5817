-- +goose Up
-- What jobs have handed in, and how far the engine has come with it.
create table intake (
    org           text    not null,
    id            text    not null primary key,
    service_id    text    not null,
    revision      text    not null,
    stored        text    not null, -- digest of the bytes in the blob store
    size          bigint  not null,
    output        text    not null, -- JSON: who made it, from what, how
    state         text    not null,
    progress      text    not null, -- JSON: what the states so far have decided
    attempts      integer not null, -- since the last step forward
    failure       text    not null, -- sentence of the last failure
    next          bigint  not null, -- not before this time
    created       bigint  not null,
    updated       bigint  not null,
    unique (org, service_id, revision)
);
create index intake_open on intake (next) where state not in ('admitted', 'rejected', 'refused');

create table artifact (
    org           text   not null,
    id            text   not null primary key,
    service_id    text   not null,
    service       text   not null,
    repository_id text   not null, -- of the source
    revision      text   not null,
    version       text   not null,
    tag           text   not null,
    repository    text   not null, -- in the registry
    digest        text   not null,
    size          bigint not null,
    run_id        text   not null,
    decision_id   text   not null,
    details       text   not null, -- JSON: author, commit time, config digest
    created       bigint not null,
    unique (org, service_id, revision)
);
create index artifact_digest on artifact (org, digest);
create index artifact_service on artifact (org, service_id, id);
