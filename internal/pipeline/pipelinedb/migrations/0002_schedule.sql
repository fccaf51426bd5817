-- +goose Up
create table pipeline_schedule (
    org           text   not null,
    repository_id text   not null,
    repository    text   not null,
    workflow      text   not null,
    cron          text   not null,
    zone          text   not null, -- '' for UTC
    primary key (org, repository_id, workflow, cron, zone)
);
