-- +goose Up
-- The row of a ref is the truth; the bare repository on disk is a cache of it.
create table git_ref (
    org           text   not null,
    repository_id text   not null,
    name          text   not null, -- refs/heads/main
    revision      text   not null,
    at            bigint not null,
    primary key (repository_id, name)
);
create table git_state (
    org           text   not null,
    repository_id text   not null primary key,
    version       bigint not null -- grows with every change to refs or packs
);
-- Objects, as packs in the blob store, in the order in which they arrived.
create table git_pack (
    org           text   not null,
    repository_id text   not null,
    seq           bigint not null,
    digest        text   not null,
    size          bigint not null,
    at            bigint not null,
    primary key (repository_id, seq)
);
-- Every update of a ref, by whom; never changed.
create table git_ref_log (
    org           text   not null,
    id            text   not null primary key,
    repository_id text   not null,
    name          text   not null,
    old           text   not null,
    new           text   not null,
    actor         text   not null, -- user name
    landed        integer not null,
    change_id     text   not null,
    at            bigint not null
);
create index git_ref_log_new on git_ref_log (repository_id, new);

create table change (
    org           text    not null,
    id            text    not null primary key,
    repository_id text    not null,
    number        bigint  not null,
    title         text    not null,
    target        text    not null, -- branch name
    branch        text    not null, -- branch name
    state         text    not null, -- open | landed | abandoned
    author        text    not null, -- user name
    patchset      integer not null,
    revision      text    not null, -- of the newest patchset
    base          text    not null, -- target's head when it was pushed
    at            bigint  not null,
    ended         bigint  not null,
    unique (repository_id, number)
);
create index change_branch on change (repository_id, branch, state);
create table patchset (
    org       text    not null,
    change_id text    not null,
    n         integer not null,
    revision  text    not null,
    base      text    not null,
    pusher    text    not null, -- user name
    at        bigint  not null,
    primary key (change_id, n)
);
create table review (
    org       text   not null,
    id        text   not null primary key,
    change_id text   not null,
    revision  text   not null,
    by_name   text   not null,
    verdict   text   not null, -- approve | reject
    comment   text   not null,
    at        bigint not null
);
create index review_change on review (change_id, at);
create table check_result (
    org           text   not null,
    repository_id text   not null,
    revision      text   not null,
    name          text   not null, -- ci.yml/test
    base          text   not null, -- revision whose rules and workflows it ran under; '' for a landed revision
    state         text   not null,
    run_id        text   not null,
    job_id        text   not null,
    summary       text   not null,
    at            bigint not null,
    primary key (repository_id, revision, name, base)
);
