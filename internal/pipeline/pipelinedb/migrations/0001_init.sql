-- +goose Up
create table pipeline_run (
    org           text    not null,
    id            text    not null primary key,
    repository_id text    not null,
    repository    text    not null,
    workflow      text    not null, -- path of the file
    name          text    not null,
    title         text    not null,
    event         text    not null,
    ref           text    not null,
    base          text    not null,
    revision      text    not null,
    trust         text    not null,
    change_id     text    not null, -- '' for a landed run
    change_number integer not null,
    patchset      integer not null,
    actor         text    not null,
    state         text    not null,
    attempt       integer not null,
    reason        text    not null,
    diagnostics   text    not null, -- JSON
    plan          text    not null, -- JSON
    github        text    not null, -- JSON
    cancel        text    not null, -- JSON, '' if nobody asked
    created       bigint  not null,
    started       bigint  not null,
    finished      bigint  not null,
    version       bigint  not null,
    -- A fact delivered twice makes no second run. The same revision under a new base does: other rules, other workflows.
    unique (org, repository_id, revision, base, workflow, trust, change_id)
);
create index pipeline_run_active on pipeline_run (id) where finished = 0;
create index pipeline_run_change on pipeline_run (change_id) where finished = 0;
create index pipeline_run_repository on pipeline_run (repository_id, id);

create table pipeline_job (
    org      text    not null,
    id       text    not null primary key,
    run_id   text    not null references pipeline_run (id),
    position integer not null, -- the job's index in the plan
    key      text    not null,
    state    text    not null,
    reason   text    not null,
    outputs  text    not null, -- JSON
    since    bigint  not null,
    rev      bigint  not null,
    unique (run_id, position)
);

create table pipeline_attempt (
    org      text    not null,
    job_id   text    not null references pipeline_job (id),
    run_id   text    not null,
    number   integer not null,
    state    text    not null,
    reason   text    not null,
    epoch    bigint  not null,
    confined integer not null,
    network  text    not null,
    detail   text    not null, -- JSON: steps, annotations, summary
    started  bigint  not null,
    finished bigint  not null,
    primary key (job_id, number)
);
create index pipeline_attempt_run on pipeline_attempt (run_id);

create table pipeline_artifact (
    org     text   not null,
    run_id  text   not null references pipeline_run (id),
    name    text   not null,
    job_id  text   not null,
    digest  text   not null, -- of a tar of the files
    size    bigint not null,
    created bigint not null,
    primary key (run_id, name)
);

create table pipeline_cache (
    org           text   not null,
    repository_id text   not null,
    scope         text   not null, -- 'landed', or the change that wrote it
    key           text   not null,
    digest        text   not null,
    size          bigint not null,
    created       bigint not null,
    primary key (org, repository_id, scope, key)
);
