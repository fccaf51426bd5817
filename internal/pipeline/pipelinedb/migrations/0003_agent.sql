-- +goose Up
-- +goose StatementBegin
alter table pipeline_attempt add column runner text not null default '';
-- +goose StatementEnd
-- +goose StatementBegin
create table pipeline_agent (
    org     text   not null,
    name    text   not null,
    labels  text   not null, -- separated by commas
    slots   bigint not null,
    version text   not null,
    seen    bigint not null, -- when it was last connected, in microseconds
    primary key (org, name)
);
-- +goose StatementEnd
