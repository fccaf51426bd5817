-- +goose Up
create table registry_repository (
    org     text   not null,
    name    text   not null,
    created bigint not null,
    primary key (org, name)
);

create table registry_blob (
    org        text   not null,
    repository text   not null,
    digest     text   not null, -- as clients name it
    stored     text   not null, -- digest in the blob store
    size       bigint not null,
    created    bigint not null,
    primary key (org, repository, digest)
);
create index registry_blob_stored on registry_blob (stored);

create table registry_manifest (
    org           text   not null,
    repository    text   not null,
    digest        text   not null,
    stored        text   not null,
    media_type    text   not null,
    artifact_type text   not null,
    size          bigint not null,
    subject       text   not null, -- '' when it refers to nothing
    annotations   text   not null, -- JSON object
    created       bigint not null,
    primary key (org, repository, digest)
);
create index registry_manifest_subject on registry_manifest (org, repository, subject);
create index registry_manifest_stored on registry_manifest (stored);

create table registry_tag (
    org        text    not null,
    repository text    not null,
    tag        text    not null,
    digest     text    not null,
    immutable  integer not null,
    updated    bigint  not null,
    primary key (org, repository, tag)
);
create index registry_tag_digest on registry_tag (org, repository, digest);

create table registry_upload (
    org        text   not null,
    id         text   not null primary key,
    repository text   not null,
    size       bigint not null,
    updated    bigint not null
);

-- A chunk is a blob of its own: what was acknowledged is stored, on any store.
create table registry_chunk (
    org       text   not null,
    upload_id text   not null,
    at        bigint not null, -- offset in the upload
    size      bigint not null,
    stored    text   not null,
    primary key (upload_id, at)
);

-- Blobs that may be without a reference since a time. A condemned one is being
-- removed: nothing may refer to it until its row is gone.
create table registry_garbage (
    org       text    not null,
    stored    text    not null primary key,
    since     bigint  not null,
    condemned integer not null
);
