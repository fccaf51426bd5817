-- +goose Up
-- What a manifest names: configuration and layers, or the manifests of an index. Rows of manifests from before have indexed = 0
-- until they were read once.
create table registry_edge (
    org        text not null,
    repository text not null,
    parent     text not null, -- digest of the manifest
    child      text not null, -- digest that it names
    kind       text not null, -- blob, manifest
    primary key (org, repository, parent, child)
);
create index registry_edge_child on registry_edge (org, repository, child);
alter table registry_manifest add column indexed integer not null default 0;

-- When somebody last wanted a blob that no manifest names: it stays for a day after that.
alter table registry_blob add column seen bigint not null default 0;

create table registry_hold (
    org        text   not null,
    repository text   not null,
    digest     text   not null,
    reason     text   not null,
    actor      text   not null,
    created    bigint not null,
    primary key (org, repository, digest)
);

create table registry_quota (
    org        text   not null,
    repository text   not null,
    bytes      bigint not null,
    actor      text   not null,
    updated    bigint not null,
    primary key (org, repository)
);

-- Stored bytes that are not what they were. They are given to nobody until somebody pushes them again.
create table registry_damage (
    org    text   not null,
    stored text   not null primary key,
    why    text   not null,
    found  bigint not null
);

-- One row: how far the present look at all bytes is, and what the last one found.
create table registry_scrub (
    org      text    not null primary key,
    cursor   text    not null, -- the last digest that was read
    started  bigint  not null, -- 0 if none is under way
    checked  bigint  not null,
    bytes    bigint  not null,
    damaged  bigint  not null,
    finished bigint  not null, -- of the last whole one
    summary  text    not null, -- of the last whole one, JSON
    asked    bigint  not null  -- when somebody last asked for one
);
