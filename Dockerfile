# The annotation app of manyhot: docs/guides/reassess/hosting.md says how to use it.
FROM python:3.12-slim AS build
COPY pyproject.toml README.md LICENSE NOTICE /manyhot/
COPY src /manyhot/src
RUN python -m venv /opt/manyhot \
 && /opt/manyhot/bin/pip install --no-cache-dir "/manyhot[postgresql,remote]"

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 manyhot \
 && install -d -o manyhot /campaign
COPY --from=build /opt/manyhot /opt/manyhot
ENV PATH=/opt/manyhot/bin:$PATH PYTHONUNBUFFERED=1
USER manyhot
WORKDIR /campaign
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["manyhot"]
CMD ["annotate", ".", "--host", "0.0.0.0"]
