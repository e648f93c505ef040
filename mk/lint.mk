# make lint
